//! Payments keep what they bought when the operator changes the tiers.

use crate::support::process::{Deployment, Request, SandboxProcess, eventually};
use crate::support::{expect, pictures};

/// A tier of the configuration file.
fn tier(name: &str, price: &str, is_default: bool) -> String {
    format!(
        "[[tiers]]\nname = \"{name}\"\nprice = \"{price}\"\nmax_bytes = \"1 MiB\"\nkeep = \"30d\"\n\
         default = {is_default}\n"
    )
}

/// A tier that accepts images of 2 MiB.
fn large(name: &str, price: &str, is_default: bool) -> String {
    tier(name, price, is_default).replace("1 MiB", "2 MiB")
}

fn sell(deployment: &Deployment, tiers: &[String]) {
    std::fs::write(deployment.folder().join("pixtoll.toml"), tiers.concat()).unwrap();
}

#[tokio::test]
async fn a_payment_keeps_its_route_when_its_tier_is_removed() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    sell(
        &deployment,
        &[large("year", "0.01", true), tier("month", "0.02", false)],
    );
    let server = deployment.start().await;
    let picture = pictures::png(8, 8);
    let big = pictures::png(750, 750);
    assert!(1 << 20 < big.len() && big.len() < 2 << 20, "{}", big.len());
    let (_, bare) = deployment.sign("/api/upload/token", b"").await;
    let (_, named) = deployment.sign("/api/upload/token/month", b"").await;
    let (_, direct) = deployment.sign("/api/upload/month", &picture).await;
    let (_, bare_direct) = deployment.sign("/api/upload", &big).await;
    let stranger = {
        let (payment, _) = deployment.sign("/api/upload/token/month", b"").await;
        let presented = |payment: &crate::support::Payment| {
            let headers = payment.headers();
            headers
                .iter()
                .fold(Request::post(&payment.path), |request, (name, value)| {
                    request.with(name, value)
                })
        };
        assert_eq!(deployment.answer(&presented(&payment)).await.status, 200);
        presented(&payment.copied_from_the_chain())
    };
    let bare_token = deployment.answer(&bare).await.token();
    let named_token = deployment.answer(&named).await.token();
    let image = deployment.answer(&direct).await.field("id");
    let bare_image = deployment.answer(&bare_direct).await.field("id");
    // Signed for an offer that is about to be withdrawn.
    let (_, late) = deployment.sign("/api/upload/token/month", b"").await;
    server.kill().await;

    sell(
        &deployment,
        &[tier("week", "0.05", true), tier("year", "0.01", false)],
    );
    let server = deployment.start().await;
    assert_eq!(deployment.answer(&bare).await.token(), bare_token);
    assert_eq!(deployment.answer(&named).await.token(), named_token);
    assert_eq!(deployment.answer(&direct).await.field("id"), image);
    assert_eq!(
        deployment.answer(&bare_direct).await.field("id"),
        bare_image
    );
    let refused = deployment.answer(&stranger).await;
    assert_eq!(refused.verdict(), expect::known(Some(true)));
    // An offer stays valid for the time that it stated.
    assert_eq!(deployment.answer(&late).await.token().len(), 40);
    // Nothing else is sold at that route.
    let gone = deployment
        .answer(&Request::post("/api/upload/token/month"))
        .await;
    assert_eq!(
        gone.verdict(),
        (404, "unknown_tier".to_owned(), Some(false))
    );
    let (_, week) = deployment.sign("/api/upload/token", b"").await;
    assert_eq!(deployment.answer(&week).await.json()["tier"], "week");
    // A payment of a route with a tier name doesn't count at another route.
    let elsewhere = named.clone().at("/api/upload/token");
    let refused = deployment.answer(&elsewhere).await;
    assert_eq!(refused.verdict(), expect::known(Some(true)));
    let upload = Request::post("/api/upload")
        .with("X-Upload-Token", &named_token)
        .with_image(&picture);
    assert_eq!(deployment.answer(&upload).await.json()["tier"], "month");
    server.kill().await;

    // Not even when the server sells nothing any more.
    let free = tier("free", "0", false).replace("default = false\n", "");
    sell(&deployment, &[free]);
    let _server = deployment.start().await;
    assert_eq!(deployment.answer(&bare).await.token(), bare_token);
    assert_eq!(deployment.answer(&direct).await.field("id"), image);
    deployment.check_ledger().await;
}

/// The names and prices of the tiers on sale.
async fn prices(deployment: &Deployment) -> Vec<(String, String)> {
    let table = deployment.answer(&Request::get("/api/tiers")).await.json();
    let tiers = table["tiers"].as_array().unwrap().iter();
    tiers
        .map(|tier| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&tier["name"]), text(&tier["price"]["usd"]))
        })
        .collect()
}

#[tokio::test]
async fn prices_and_limits_change_while_the_server_runs() {
    let sandbox = SandboxProcess::start().await;
    let key = "limits.free_per_address_per_hour";
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url).unset(key);
    let free = tier("free", "0", false).replace("default = false\n", "");
    let with_limit = |limit: u32, tiers: &[String]| {
        let limits = format!("[limits]\nfree_per_address_per_hour = {limit}\n");
        sell(&deployment, &[&[limits], tiers].concat());
    };
    with_limit(50, &[tier("year", "0.01", true), free.clone()]);
    let server = deployment.start().await;
    let (payment, early) = deployment.sign("/api/upload/token", b"").await;
    let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
    assert_eq!(deployment.answer(&upload).await.status, 200);

    let tiers = [
        tier("week", "0.05", true),
        tier("year", "0.03", false),
        free,
    ];
    with_limit(2, &tiers);
    server.reload();
    let expected = [("week", "0.05"), ("year", "0.03"), ("free", "0.00")];
    let expected = expected.map(|(name, usd)| (name.to_owned(), usd.to_owned()));
    eventually("the other prices", async || {
        (prices(&deployment).await == expected).then_some(())
    })
    .await;
    // Earlier offers stay valid, also at routes that name no tier, and earlier uploads stay
    // counted.
    let token = deployment.answer(&early).await;
    assert_eq!(token.json()["tier"], "year");
    assert_eq!(deployment.answer(&early).await.token(), token.token());
    let (_, dearer) = deployment.sign("/api/upload/token/year", b"").await;
    assert_eq!(deployment.answer(&dearer).await.token().len(), 40);
    let moved = sandbox.transfers_to(payment.authorization.to).await;
    assert_eq!(moved, [10_000, 30_000]);
    let (_, week) = deployment.sign("/api/upload/token", b"").await;
    assert_eq!(deployment.answer(&week).await.json()["tier"], "week");
    let limited = eventually("the limit", async || {
        let answer = deployment.answer(&upload).await;
        (answer.status != 200).then_some(answer)
    });
    let limited = limited.await;
    assert_eq!(limited.error(), "rate_limited");
    // The cheapest tier, which is not the default one.
    let route = limited.json()["action"]["url"].clone();
    assert!(route.as_str().unwrap().ends_with("/api/upload/year"));

    // A payment is still recognised when its tier accepts smaller images only.
    let picture = pictures::png(300, 300);
    assert!(picture.len() > 100 << 10);
    let (_, bought) = deployment.sign("/api/upload/week", &picture).await;
    let id = deployment.answer(&bought).await.field("id");
    let (_, offered) = deployment.sign("/api/upload/week", &picture).await;
    let small = tier("week", "0.05", true).replace("1 MiB", "100 KiB");
    with_limit(2, &[small]);
    server.reload();
    eventually("the smaller tier", async || {
        (prices(&deployment).await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(deployment.answer(&bought).await.field("id"), id);
    assert_eq!(deployment.answer(&offered).await.status, 200);
    with_limit(2, &tiers);
    server.reload();
    eventually("the other prices", async || {
        (prices(&deployment).await == expected).then_some(())
    })
    .await;

    // An invalid configuration changes nothing, and doesn't end the server.
    with_limit(3, &[tier("week", "0.0000001", true)]);
    server.reload();
    eventually("the complaint", async || {
        let log = deployment.log();
        log.contains("SIGHUP: the settings are invalid")
            .then_some(())
    })
    .await;
    assert_eq!(prices(&deployment).await, expected);
    // Nor does a file that is gone, although a server starts without one.
    std::fs::remove_file(deployment.folder().join("pixtoll.toml")).unwrap();
    server.reload();
    eventually("the second complaint", async || {
        let log = deployment.log();
        log.contains("`pixtoll.toml` can't be read").then_some(())
    })
    .await;
    assert_eq!(prices(&deployment).await, expected);
    // Settings that need a restart are reported.
    sell(
        &deployment,
        &["[http]\nbase_url = \"http://127.0.0.9:1\"\n".to_owned()],
    );
    server.reload();
    eventually("the last table", async || {
        (prices(&deployment).await.len() == 3 && prices(&deployment).await[0].0 == "free")
            .then_some(())
    })
    .await;
    server.terminate();
    assert_eq!(server.end().await.code(), Some(0), "{}", deployment.log());
    deployment.check_ledger().await;
}
