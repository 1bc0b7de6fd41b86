//! What was bought stays bought, whatever its operator sells later.

use crate::support::process::{Deployment, Request, SandboxProcess};
use crate::support::{expect, pictures};

/// A tier of the configuration file.
fn tier(name: &str, price: &str, is_default: bool) -> String {
    format!(
        "[[tiers]]\nname = \"{name}\"\nprice = \"{price}\"\nmax_bytes = \"1 MiB\"\nkeep = \"30d\"\n\
         default = {is_default}\n"
    )
}

fn sell(deployment: &Deployment, tiers: &[String]) {
    std::fs::write(deployment.folder().join("pixtoll.toml"), tiers.concat()).unwrap();
}

#[tokio::test]
async fn a_payment_is_answered_where_it_bought_when_its_tier_is_gone_or_no_default_any_more() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    sell(
        &deployment,
        &[tier("year", "0.01", true), tier("month", "0.02", false)],
    );
    let server = deployment.start().await;
    let picture = pictures::png(8, 8);
    let (_, bare) = deployment.sign("/api/upload/token", b"").await;
    let (_, named) = deployment.sign("/api/upload/token/month", b"").await;
    let (_, direct) = deployment.sign("/api/upload/month", &picture).await;
    let (_, bare_direct) = deployment.sign("/api/upload", &picture).await;
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
    // Signed for an offer that is gone in a moment.
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
    // An offer stays good for as long as it said.
    assert_eq!(deployment.answer(&late).await.token().len(), 40);
    // Nothing else is sold there.
    let gone = deployment
        .answer(&Request::post("/api/upload/token/month"))
        .await;
    assert_eq!(gone.verdict(), (404, "not_found".to_owned(), Some(false)));
    let (_, week) = deployment.sign("/api/upload/token", b"").await;
    assert_eq!(deployment.answer(&week).await.json()["tier"], "week");
    // What it bought at a route with a name is not what it is asked for at another one.
    let elsewhere = named.clone().at("/api/upload/token");
    let refused = deployment.answer(&elsewhere).await;
    assert_eq!(refused.verdict(), expect::known(Some(true)));
    let upload = Request::post("/api/upload")
        .with("X-Upload-Token", &named_token)
        .with_image(&picture);
    assert_eq!(deployment.answer(&upload).await.json()["tier"], "month");
    server.kill().await;

    // Not even when nothing is sold there at all.
    let free = tier("free", "0", false).replace("default = false\n", "");
    sell(&deployment, &[free]);
    let _server = deployment.start().await;
    assert_eq!(deployment.answer(&bare).await.token(), bare_token);
    assert_eq!(deployment.answer(&direct).await.field("id"), image);
    deployment.check_ledger().await;
}
