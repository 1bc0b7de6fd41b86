use super::super::support::{Payer, START, http, listen, open};
use super::*;

fn requirements(sandbox: &Sandbox, version: u8) -> Value {
    let (network, amount) = match version {
        1 => ("base-sepolia", "maxAmountRequired"),
        _ => ("eip155:84532", "amount"),
    };
    json!({
        "scheme": "exact",
        "network": network,
        amount: "10000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": sandbox.recipient(),
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    })
}

fn body(sandbox: &Sandbox, version: u8, payment: &(Authorization, Hex)) -> Value {
    let (authorization, signature) = payment;
    let requirements = requirements(sandbox, version);
    let mut payload = json!({
        "x402Version": version,
        "payload": {
            "signature": signature,
            "authorization": {
                "from": authorization.from,
                "to": authorization.to,
                "value": authorization.value.to_string(),
                "validAfter": authorization.valid_after.to_string(),
                "validBefore": authorization.valid_before.to_string(),
                "nonce": authorization.nonce,
            },
        },
    });
    if version == 1 {
        payload["scheme"] = json!("exact");
        payload["network"] = requirements["network"].clone();
    } else {
        payload["accepted"] = requirements.clone();
    }
    json!({
        "x402Version": version,
        "paymentPayload": payload,
        "paymentRequirements": requirements,
    })
}

async fn post(url: String, body: String) -> (u16, Value) {
    let request = http()
        .post(url)
        .body(body)
        .header("content-type", "application/json");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-pixtoll-sandbox"], "play money");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn both_versions_verify_and_settle_once() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    for version in [1, 2] {
        let payer = Payer::numbered(version);
        let body = body(&sandbox, version, &payer.pays(&sandbox, 10_000, version));
        let payer = payer.address().to_checksum(None);
        let url = |path| format!("{}/{path}", listening.facilitator_url);
        let verified = post(url("verify"), body.to_string()).await;
        assert_eq!(verified, (200, json!({"isValid": true, "payer": payer})));
        let (status, settled) = post(url("settle"), body.to_string()).await;
        let transfers = sandbox.transfers_to(sandbox.recipient()).await.unwrap();
        assert_eq!(transfers.len(), usize::from(version));
        let network = &requirements(&sandbox, version)["network"];
        assert_eq!(
            (status, settled),
            (
                200,
                json!({
                    "success": true,
                    "transaction": transfers.last().unwrap().transaction,
                    "network": network,
                    "payer": payer,
                })
            )
        );
        let again = post(url("settle"), body.to_string()).await;
        let reason = "invalid_exact_evm_nonce_already_used";
        let refusal = json!({
            "success": false,
            "errorReason": reason,
            "transaction": "",
            "network": network,
            "payer": payer,
        });
        assert_eq!(again, (200, refusal));
        let verified = post(url("verify"), body.to_string()).await;
        let refusal = json!({"isValid": false, "invalidReason": reason, "payer": payer});
        assert_eq!(verified, (200, refusal));
    }
    listening.stop().await;
}

#[tokio::test]
async fn twenty_settles_at_the_same_time_transfer_once() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let payer = Payer::numbered(1);
    let body = body(&sandbox, 2, &payer.pays(&sandbox, 10_000, 1)).to_string();
    let calls = (0..20).map(|_| post(listening.facilitator_url.clone() + "/settle", body.clone()));
    let answers = futures_util::future::join_all(calls).await;
    let successes = answers
        .iter()
        .filter(|(_, answer)| answer["success"] == true)
        .count();
    assert_eq!(successes, 1);
    for (status, answer) in answers {
        let refused = answer["errorReason"] == "invalid_exact_evm_nonce_already_used";
        assert!(
            status == 200 && (refused || answer["success"] == true),
            "{answer}"
        );
    }
    assert_eq!(
        sandbox
            .transfers_to(sandbox.recipient())
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        sandbox.balance(payer.address()).await.unwrap(),
        U256::from(99_990_000)
    );
    listening.stop().await;
}

#[tokio::test]
async fn a_stop_during_settlement_leaves_the_chain_consistent() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let url = listening.facilitator_url.clone() + "/settle";
    let calls: Vec<_> = (1..20)
        .map(|nonce| {
            let payment = Payer::numbered(nonce).pays(&sandbox, 10_000, nonce);
            let body = body(&sandbox, 2, &payment).to_string();
            tokio::spawn(http().post(url.clone()).body(body).send())
        })
        .collect();
    while sandbox
        .transfers_to(sandbox.recipient())
        .await
        .unwrap()
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
    listening.stop().await;
    futures_util::future::join_all(calls).await;
    let transfers = sandbox
        .transfers_to(sandbox.recipient())
        .await
        .unwrap()
        .len();
    assert!(transfers > 0);
    let earned = sandbox.balance(sandbox.recipient()).await.unwrap();
    assert!(earned >= U256::from(transfers) * U256::from(10_000));
}

/// A copy of a valid request with another value at `pointer`.
fn spoilt(good: &Value, pointer: &str, value: Value) -> Value {
    let mut bad = good.clone();
    *bad.pointer_mut(pointer).unwrap() = value;
    bad
}

type Fault = (&'static str, Value, &'static str);

/// Changes to the terms of a valid request: the JSON pointer, the value, and the reason of the rejection.
fn faulty_terms() -> [Fault; 9] {
    let version = "invalid_x402_version";
    let name = "invalid_exact_evm_token_name_mismatch";
    let domain_version = "invalid_exact_evm_token_version_mismatch";
    let no_domain = "invalid_exact_evm_missing_eip712_domain";
    let network = "invalid_exact_evm_network_mismatch";
    let other = json!(Address::repeat_byte(1));
    [
        ("/x402Version", json!(1), version),
        ("/paymentPayload/x402Version", json!(3), version),
        (
            "/paymentPayload/accepted/scheme",
            json!("upto"),
            "unsupported_scheme",
        ),
        (
            "/paymentRequirements/scheme",
            json!("upto"),
            "unsupported_scheme",
        ),
        (
            "/paymentPayload/accepted/network",
            json!("base-sepolia"),
            network,
        ),
        ("/paymentRequirements/extra", json!(null), no_domain),
        ("/paymentRequirements/extra/name", json!("USD Coin"), name),
        (
            "/paymentRequirements/extra/version",
            json!("1"),
            domain_version,
        ),
        (
            "/paymentRequirements/asset",
            other,
            "asset_not_deployed_contract",
        ),
    ]
}

/// Changes to the payment of a valid request, and to what it is compared with, in the same form.
fn faulty_payments() -> [Fault; 6] {
    let value = "invalid_exact_evm_payload_authorization_value_mismatch";
    let recipient = "invalid_exact_evm_recipient_mismatch";
    let other = json!(Address::repeat_byte(1));
    [
        ("/paymentRequirements/payTo", other, recipient),
        ("/paymentRequirements/amount", json!("9999"), value),
        (
            "/paymentRequirements/amount",
            json!(10_000),
            INVALID_REQUIREMENTS,
        ),
        (
            "/paymentPayload/payload/authorization/value",
            json!("10001"),
            SIGNATURE,
        ),
        (
            "/paymentPayload/payload/authorization/value",
            json!(10_000),
            INVALID_PAYLOAD,
        ),
        (
            "/paymentPayload/payload/authorization",
            json!(null),
            INVALID_PAYLOAD,
        ),
    ]
}

#[tokio::test]
async fn each_fault_has_its_reason() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let good = body(&sandbox, 2, &Payer::numbered(1).pays(&sandbox, 10_000, 1));
    for (pointer, value, reason) in faulty_terms().into_iter().chain(faulty_payments()) {
        let bad = spoilt(&good, pointer, value).to_string();
        let (status, answer) =
            post(listening.facilitator_url.clone() + "/verify", bad.clone()).await;
        assert_eq!(
            (status, &answer["isValid"]),
            (200, &json!(false)),
            "{pointer}"
        );
        assert_eq!(answer["invalidReason"], reason, "{pointer}");
        let (status, answer) = post(listening.facilitator_url.clone() + "/settle", bad).await;
        assert_eq!(
            (status, &answer["success"]),
            (200, &json!(false)),
            "{pointer}"
        );
        assert_eq!(
            (&answer["errorReason"], &answer["transaction"]),
            (&json!(reason), &json!(""))
        );
    }
    let mut other_network = spoilt(&good, "/paymentRequirements/network", json!("eip155:8453"));
    other_network["paymentPayload"]["accepted"]["network"] = json!("eip155:8453");
    let (_, answer) = post(
        listening.facilitator_url.clone() + "/verify",
        other_network.to_string(),
    )
    .await;
    assert_eq!(answer["invalidReason"], "invalid_network");
    assert!(
        sandbox
            .transfers_to(sandbox.recipient())
            .await
            .unwrap()
            .is_empty()
    );
    listening.stop().await;
}

#[tokio::test]
async fn validity_time_and_balance_have_their_reasons() {
    let (sandbox, clock) = open().await;
    let listening = listen(&sandbox);
    let payer = Payer::numbered(1);
    let verify = async |authorization: &Authorization| {
        let payment = (authorization.clone(), payer.sign(&sandbox, authorization));
        let mut body = body(&sandbox, 2, &payment);
        body["paymentRequirements"]["amount"] = json!(authorization.value.to_string());
        let url = listening.facilitator_url.clone() + "/verify";
        let (_, answer) = post(url, body.to_string()).await;
        answer["invalidReason"].as_str().map(str::to_owned)
    };
    let (good, _) = payer.pays(&sandbox, 10_000, 1);
    let until = |seconds| Authorization {
        valid_before: U256::from(seconds),
        ..good.clone()
    };
    assert_eq!(verify(&until(START + 6)).await, None);
    assert_eq!(
        verify(&until(START + 5)).await.as_deref(),
        Some(VALID_BEFORE)
    );
    let after = |seconds| Authorization {
        valid_after: U256::from(seconds),
        ..good.clone()
    };
    assert_eq!(verify(&after(START - 1)).await, None);
    assert_eq!(verify(&after(START)).await.as_deref(), Some(VALID_AFTER));
    assert_eq!(
        verify(&after(START + 1)).await.as_deref(),
        Some(VALID_AFTER)
    );
    assert_eq!(verify(&payer.pays(&sandbox, 100_000_000, 1).0).await, None);
    let (dear, _) = payer.pays(&sandbox, 100_000_001, 1);
    assert_eq!(verify(&dear).await.as_deref(), Some("insufficient_funds"));
    clock.advance(Duration::from_secs(295));
    assert_eq!(verify(&good).await.as_deref(), Some(VALID_BEFORE));
    listening.stop().await;
}

#[tokio::test]
async fn a_malformed_request_is_a_400_in_json() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let long = format!(
        "{{\"x402Version\": 2, \"padding\": \"{}\"}}",
        "a".repeat(MAX_BODY_BYTES)
    );
    for bad in ["", "{", "[]", "{\"x402Version\": 2}", &long] {
        let url = |path| format!("{}/{path}", listening.facilitator_url);
        let (status, answer) = post(url("verify"), bad.to_owned()).await;
        assert_eq!((status, &answer["isValid"]), (400, &json!(false)));
        let (status, answer) = post(url("settle"), bad.to_owned()).await;
        assert_eq!((status, &answer["success"]), (400, &json!(false)));
    }
    listening.stop().await;
}

#[tokio::test]
async fn supported_says_that_it_is_play_money() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let url = listening.facilitator_url.clone() + "/supported";
    let answer = http().get(url).send().await.unwrap();
    assert_eq!(answer.headers()["x-pixtoll-sandbox"], "play money");
    let answer: Value = answer.json().await.unwrap();
    for (index, version, network) in [(0, 2, "eip155:84532"), (1, 1, "base-sepolia")] {
        let kind = &answer["kinds"][index];
        assert_eq!(
            (&kind["x402Version"], &kind["network"]),
            (&json!(version), &json!(network))
        );
        assert_eq!(kind["extra"]["playMoney"], true);
    }
    assert_eq!(answer["extensions"], json!([]));
    listening.stop().await;
}
