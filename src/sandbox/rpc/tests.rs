use std::time::Duration;

use alloy_provider::{Provider, RootProvider};
use alloy_rpc_types_eth::{BlockId, BlockNumberOrTag, Filter, TransactionRequest};
use alloy_sol_types::SolEvent;

use super::super::support::{Payer, START, http, listen, open};
use super::*;

fn provider(listening: &super::super::Listening) -> RootProvider {
    drop(http());
    RootProvider::new_http(listening.rpc_url.parse().unwrap())
}

fn ask(sandbox: &Sandbox, call: &impl SolCall) -> TransactionRequest {
    TransactionRequest::default()
        .to(sandbox.network().usdc)
        .input(call.abi_encode().into())
}

#[tokio::test]
async fn alloy_reads_blocks_and_the_chain_id() {
    let (sandbox, clock) = open().await;
    let listening = listen(&sandbox);
    let provider = provider(&listening);
    assert_eq!(provider.get_chain_id().await.unwrap(), 84_532);
    assert_eq!(provider.get_net_version().await.unwrap(), 84_532);
    assert_eq!(provider.get_client_version().await.unwrap(), CLIENT_VERSION);
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    clock.advance(Duration::from_secs(3));
    assert_eq!(provider.get_block_number().await.unwrap(), 1);
    for tag in [
        BlockNumberOrTag::Latest,
        BlockNumberOrTag::Safe,
        BlockNumberOrTag::Finalized,
    ] {
        let block = provider.get_block_by_number(tag).await.unwrap().unwrap();
        assert_eq!(
            (block.header.number, block.header.timestamp),
            (1, START + 3)
        );
    }
    let hash = sandbox
        .send(Address::ZERO, Address::repeat_byte(1), U256::ONE)
        .await
        .unwrap();
    let block = provider
        .get_block_by_number(2.into())
        .full()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(block.transactions.hashes().collect::<Vec<_>>(), [hash]);
    assert_eq!(
        block.transactions.as_transactions().map(<[_]>::len),
        Some(1)
    );
    let same = provider
        .get_block_by_hash(block.header.hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(same.header, block.header);
    assert!(
        provider
            .get_block_by_number(3.into())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        provider
            .get_block_by_hash(B256::ZERO)
            .await
            .unwrap()
            .is_none()
    );
    listening.stop().await;
}

#[tokio::test]
async fn a_used_nonce_is_followed_by_its_transfer() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let provider = provider(&listening);
    let (authorization, signature) = Payer::numbered(1).pays(&sandbox, 10_000, 7);
    let hash = sandbox.execute(&authorization, &signature).await.unwrap();
    sandbox
        .cancel(authorization.from, B256::repeat_byte(8))
        .await
        .unwrap();
    let receipt = provider
        .get_transaction_receipt(hash)
        .await
        .unwrap()
        .unwrap();
    assert!(receipt.status());
    let [used, moved] = receipt.logs() else {
        panic!("{receipt:?}")
    };
    assert_eq!((used.log_index, moved.log_index), (Some(0), Some(1)));
    let used_event = Token::AuthorizationUsed::decode_log(&used.inner).unwrap();
    assert_eq!(used_event.authorizer, authorization.from);
    assert_eq!(used_event.nonce, authorization.nonce);
    let moved_event = Token::Transfer::decode_log(&moved.inner).unwrap();
    assert_eq!(
        (moved_event.from, moved_event.to, moved_event.value),
        (authorization.from, authorization.to, authorization.value)
    );
    assert_eq!(moved_event.address, sandbox.network().usdc);
    listening.stop().await;
}

#[tokio::test]
async fn logs_are_found_by_topic_address_and_block() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let provider = provider(&listening);
    let (authorization, signature) = Payer::numbered(1).pays(&sandbox, 10_000, 7);
    let hash = sandbox.execute(&authorization, &signature).await.unwrap();
    sandbox
        .cancel(authorization.from, B256::repeat_byte(8))
        .await
        .unwrap();
    let receipt = provider
        .get_transaction_receipt(hash)
        .await
        .unwrap()
        .unwrap();
    let [used, moved] = receipt.logs() else {
        panic!("{receipt:?}")
    };
    let token = Filter::new().address(sandbox.network().usdc).from_block(0);
    let by_nonce = token
        .clone()
        .event_signature(vec![
            Token::AuthorizationUsed::SIGNATURE_HASH,
            Token::AuthorizationCanceled::SIGNATURE_HASH,
        ])
        .topic1(authorization.from)
        .topic2(authorization.nonce);
    assert_eq!(
        provider.get_logs(&by_nonce).await.unwrap(),
        *std::slice::from_ref(used)
    );
    let nonce_is_any = by_nonce.topic2(alloy_primitives::FixedBytes::<32>::ZERO);
    assert!(provider.get_logs(&nonce_is_any).await.unwrap().is_empty());
    let to_us = token.clone().topic2(authorization.to);
    assert_eq!(
        provider.get_logs(&to_us).await.unwrap(),
        *std::slice::from_ref(moved)
    );
    assert_eq!(provider.get_logs(&token).await.unwrap().len(), 3);
    assert!(
        provider
            .get_logs(&token.clone().to_block(0))
            .await
            .unwrap()
            .is_empty()
    );
    let here = Filter::new().at_block_hash(receipt.block_hash.unwrap());
    assert_eq!(provider.get_logs(&here).await.unwrap(), receipt.logs());
    assert!(
        provider
            .get_logs(&here.address(Address::ZERO))
            .await
            .unwrap()
            .is_empty()
    );
    let nowhere = Filter::new().at_block_hash(B256::ZERO);
    assert!(
        provider
            .get_logs(&nowhere)
            .await
            .unwrap_err()
            .is_error_resp()
    );
    assert!(
        provider
            .get_transaction_receipt(B256::ZERO)
            .await
            .unwrap()
            .is_none()
    );
    listening.stop().await;
}

#[tokio::test]
async fn the_state_at_a_block_does_not_change_later() {
    let (sandbox, clock) = open().await;
    let listening = listen(&sandbox);
    let provider = provider(&listening);
    let (authorization, signature) = Payer::numbered(1).pays(&sandbox, 10_000, 7);
    let payer = authorization.from;
    let pinned = provider
        .get_block_by_number(BlockNumberOrTag::Safe)
        .await
        .unwrap()
        .unwrap();
    sandbox.execute(&authorization, &signature).await.unwrap();
    clock.advance(Duration::from_secs(1));
    let is_used = async |block: BlockId| {
        let call = Token::authorizationStateCall {
            authorizer: payer,
            nonce: authorization.nonce,
        };
        let answer = provider
            .call(ask(&sandbox, &call))
            .block(block)
            .await
            .unwrap();
        Token::authorizationStateCall::abi_decode_returns(&answer).unwrap()
    };
    let balance = async |block: BlockId| {
        let call = Token::balanceOfCall { account: payer };
        let answer = provider
            .call(ask(&sandbox, &call))
            .block(block)
            .await
            .unwrap();
        Token::balanceOfCall::abi_decode_returns(&answer).unwrap()
    };
    let before = BlockId::from(pinned.header.hash);
    assert!(!is_used(before).await);
    assert!(!is_used(BlockId::number(0)).await);
    assert!(is_used(BlockId::latest()).await);
    assert!(is_used(BlockId::number(1)).await);
    assert_eq!(balance(before).await, U256::from(100_000_000));
    assert_eq!(balance(BlockId::latest()).await, U256::from(99_990_000));
    assert!(!is_used(BlockId::from((pinned.header.hash, Some(true)))).await);
    for unknown in [BlockId::from(B256::ZERO), BlockId::number(99)] {
        let call = ask(&sandbox, &Token::balanceOfCall { account: payer });
        let error = provider.call(call).block(unknown).await.unwrap_err();
        assert_eq!(error.as_error_resp().unwrap().message, "unknown block");
    }
    listening.stop().await;
}

#[tokio::test]
async fn only_the_token_has_code_and_it_has_only_two_methods() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let provider = provider(&listening);
    assert!(
        provider
            .get_code_at(Address::repeat_byte(1))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        !provider
            .get_code_at(sandbox.network().usdc)
            .await
            .unwrap()
            .is_empty()
    );
    let mut call = ask(
        &sandbox,
        &Token::balanceOfCall {
            account: Address::ZERO,
        },
    );
    call.input.input = Some(Hex::from_static(&[1, 2, 3, 4]));
    assert_eq!(
        provider
            .call(call)
            .await
            .unwrap_err()
            .as_error_resp()
            .unwrap()
            .code,
        3
    );
    listening.stop().await;
}

#[tokio::test]
async fn batches_are_answered_and_writing_methods_are_refused() {
    let (sandbox, _) = open().await;
    let listening = listen(&sandbox);
    let post = async |body: Value| {
        let answer = http()
            .post(&listening.rpc_url)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["x-pixtoll-sandbox"], "play money");
        answer.text().await.unwrap()
    };
    let call = |id: u8, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let notification = json!({"jsonrpc": "2.0", "method": "eth_chainId"});
    let batch = json!([
        call(7, "eth_chainId"),
        call(8, "eth_sendRawTransaction"),
        notification,
        1
    ]);
    let answer: Value = serde_json::from_str(&post(batch).await).unwrap();
    assert_eq!(
        (&answer[0]["id"], &answer[0]["result"]),
        (&json!(7), &json!("0x14a34"))
    );
    assert_eq!(
        (&answer[1]["id"], &answer[1]["error"]["code"]),
        (&json!(8), &json!(-32601))
    );
    assert_eq!(answer[2]["error"]["code"], -32600);
    assert_eq!(answer.as_array().unwrap().len(), 3);
    assert_eq!(post(notification).await, "");
    for (calls, is_answered) in [
        (0, false),
        (1, true),
        (MAX_BATCH, true),
        (MAX_BATCH + 1, false),
    ] {
        let batch = json!(vec![call(1, "net_version"); calls]);
        let answer: Value = serde_json::from_str(&post(batch).await).unwrap();
        assert_eq!(answer.is_array(), is_answered, "{calls}");
    }
    assert_eq!(
        sandbox.balance(sandbox.recipient()).await.unwrap(),
        U256::ZERO
    );
    listening.stop().await;
}
