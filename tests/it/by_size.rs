//! Prices by size (`price_per_mib`): each image costs its own price, no smaller payment buys a larger
//! image, and what is sold before the image is known costs what the largest image costs.

use std::sync::Arc;

use pixtoll::model::payment::{Product, ProductKind};
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::tiers::{Tier, TierTable};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::expect::invalid;
use crate::support::origin::{Origin, Reply};
use crate::support::process::{Deployment, Request, SandboxProcess};
use crate::support::proxy::Fault;
use crate::support::{Answer, Payment, TestApp, pictures};

const MIB: usize = 1 << 20;
/// 0.01 USDC and 0.002 USDC for each started MiB; images up to 2.5 MiB.
const TIERS: &str = "[[tiers]]\nname = \"year\"\nprice = \"0.01\"\nprice_per_mib = \"0.002\"\n\
    max_bytes = \"2560 KiB\"\nkeep = \"365d\"\ndefault = true\n\
    [[tiers]]\nname = \"month\"\nprice = \"0.03\"\nmax_bytes = \"1 MiB\"\nkeep = \"30d\"\n\
    [[tiers]]\nname = \"free\"\nprice = \"0\"\nmax_bytes = \"1 MiB\"\nkeep = \"7d\"\n";

async fn app() -> TestApp {
    TestApp::builder().tiers(TIERS).spawn().await
}

/// The amount of the offers in a challenge, which all agree.
fn price(challenge: &Answer) -> u64 {
    assert_eq!(challenge.status, 402, "{}", challenge.text());
    let offers = challenge.document("payment-required")["accepts"].clone();
    let offers = offers.as_array().unwrap();
    let amount = |offer: &Value| offer["amount"].as_str().unwrap().parse().unwrap();
    let amounts: Vec<u64> = offers.iter().map(amount).collect();
    assert!(amounts.iter().all(|other| *other == amounts[0]));
    amounts[0]
}

/// The challenge to an upload of these bytes without a payment.
async fn asked(app: &TestApp, path: &str, image: &[u8]) -> Answer {
    let headers = [("content-type", "image/png")];
    app.send("POST", path, &headers, image.to_vec()).await
}

/// A payment for a challenge.
fn answering(app: &TestApp, challenge: &Answer, path: &str) -> Payment {
    let now = pixtoll::system::clock::Clock::now(&app.clock);
    Payment::answering(challenge, path, &app.wallet, now)
}

async fn moved(app: &TestApp) -> Vec<u64> {
    let transfers = app.transfers().await;
    let units = transfers.iter();
    units
        .map(|it| it.value.to_string().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn an_upload_costs_what_its_own_size_costs() {
    let app = app().await;
    for (bytes, expected) in [
        (MIB, 12_000),
        (MIB + 1, 14_000),
        (2 * MIB + 1, 16_000),
        (5 * MIB / 2, 16_000),
    ] {
        let image = pictures::png_of_size(bytes);
        for path in ["/api/upload/year", "/api/upload"] {
            let challenge = asked(&app, path, &image).await;
            assert_eq!(price(&challenge), expected, "{bytes}");
            // The price of an image that is not sent.
            let told = app.post(&format!("{path}?bytes={bytes}")).await;
            assert_eq!(price(&told), expected, "{bytes}");
            assert!(told.text().contains("This costs 0.01"), "{}", told.text());
        }
        let challenge = asked(&app, "/api/upload/year", &image).await;
        let payment = answering(&app, &challenge, "/api/upload/year");
        let bought = app.pay_with(&payment, &image).await;
        assert_eq!(bought.status, 200, "{}", bought.text());
        assert_eq!(moved(&app).await.last(), Some(&expected));
        // The same payment again is answered by the same image.
        let again = app.pay_with(&payment, &image).await;
        assert_eq!(again.field("id"), bought.field("id"));
    }
    // The resource of an offer doesn't depend on the size, and says what is bought.
    let small = app.post("/api/upload/year?bytes=1").await;
    let resource = &small.document("payment-required")["resource"];
    assert_eq!(resource["url"], app.url("/api/upload/year"));
    let says = resource["description"].as_str().unwrap().to_owned();
    assert!(says.contains("one image up to 1 MiB"), "{says}");
    // Without a size, the price is that of the largest image.
    assert_eq!(price(&app.post("/api/upload/year").await), 16_000);
    let large = app.post("/api/upload/year?bytes=2621441").await;
    assert_eq!(
        (large.status, large.error()),
        (413, "file_too_large".to_owned())
    );
    for wrong in ["0", "x", "-1", "67108865", "1&bytes=2"] {
        let refused = app.post(&format!("/api/upload/year?bytes={wrong}")).await;
        assert_eq!(refused.error(), "invalid_parameter", "{wrong}");
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_smaller_payment_never_buys_a_larger_image() {
    let app = app().await;
    let path = "/api/upload/year";
    let (small, large) = (pictures::png_of_size(MIB), pictures::png_of_size(MIB + 1));
    let payment = app.sign_at(&format!("{path}?bytes=1")).await;
    let payment = Payment {
        path: path.to_owned(),
        ..payment
    };
    for sent in [payment.clone(), payment.as_v1()] {
        let refused = app.pay_with(&sent, &large).await;
        assert_eq!(refused.verdict(), invalid(), "{}", refused.text());
        assert!(
            refused.text().contains("1048577 bytes"),
            "{}",
            refused.text()
        );
        if sent.wire == crate::support::Wire::V2 {
            assert_eq!(price(&refused), 14_000, "the right price");
        }
    }
    // A changed amount in the offer is the offer of a larger image, but the signature is not.
    let mut forged = payment.clone();
    forged.accepted["amount"] = json!("14000");
    assert_eq!(app.pay_with(&forged, &large).await.verdict(), invalid());
    // An amount between two steps is no price.
    let mut between = payment.clone();
    between.accepted["amount"] = json!("13000");
    between.authorization.value = alloy_primitives::U256::from(13_000);
    between.sign_by(&app.wallet);
    assert_eq!(app.pay_with(&between, &small).await.verdict(), invalid());
    assert_eq!(app.calls()[..2], [0, 0], "no facilitator was asked");
    assert_eq!(app.state_of(&payment).await, None);
    // The refused payment still buys the image that it was for.
    assert_eq!(app.pay_with(&payment, &small).await.status, 200);
    // A larger payment buys a smaller image: its client was offered the larger size.
    let payment = app.sign_at(path).await;
    assert_eq!(app.pay_with(&payment, &small).await.status, 200);
    let payment = app.sign_at(path).await;
    assert_eq!(app.pay_with(&payment.as_v1(), &large).await.status, 200);
    assert_eq!(moved(&app).await, [12_000, 16_000, 16_000]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn what_is_sold_before_the_image_is_known_costs_what_the_largest_image_costs() {
    let picture = pictures::png(8, 8);
    let origin = Origin::start(Reply::Image(picture.clone())).await;
    let builder = TestApp::builder().tiers(TIERS);
    let app = origin.allowed(builder, &[]).spawn().await;
    for (path, expected) in [
        ("/api/upload/token/year", 16_000),
        ("/api/upload/token/year?images=3", 48_000),
        ("/api/links?tier=year&images=2", 32_000),
        ("/api/upload/token/month", 30_000),
    ] {
        assert_eq!(price(&app.post(path).await), expected, "{path}");
    }
    let refused = app.post("/api/upload/token/year?bytes=1").await;
    assert_eq!(refused.error(), "unknown_parameter");
    let body = json!({"url": origin.url(), "tier": "year"});
    let json = ("content-type", "application/json");
    let challenge = app
        .send("POST", "/api/import", &[json], body.to_string())
        .await;
    assert_eq!(price(&challenge), 16_000);
    let payment = answering(&app, &challenge, "/api/import");
    let mut headers = payment.headers();
    headers.push(("content-type", json.1.to_owned()));
    let imported = app
        .send("POST", "/api/import", &headers, body.to_string())
        .await;
    assert_eq!(imported.status, 200, "{}", imported.text());
    // A token takes the largest image.
    let token = app.pay(&app.sign_for("year").await).await.token();
    let largest = pictures::png_of_size(5 * MIB / 2);
    assert_eq!(app.upload_with(&token, largest).await.status, 200);
    assert_eq!(moved(&app).await, [16_000, 16_000]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_renewal_costs_what_the_size_of_its_image_costs() {
    let app = app().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    // Noise, which stays as large when it is cleaned.
    let image = pictures::png(750, 750);
    assert!(MIB < image.len() && image.len() < 2 * MIB);
    let large = app.upload_with(&token, image).await;
    let small = app.upload_free(pictures::png(8, 8)).await;
    let path = |image: &Answer| format!("/api/images/{}/renew?tier=year", image.field("id"));
    assert_eq!(price(&app.post(&path(&large)).await), 14_000);
    let payment = app.sign_at(&path(&small)).await;
    assert_eq!(payment.authorization.value.to_string(), "12000");
    // The price of the small image does not renew the large one.
    let mut moved_to = payment.clone();
    moved_to.resource["url"] = json!(app.url(&path(&large)));
    let refused = app.pay_at(&path(&large), &moved_to).await;
    assert_eq!(refused.verdict(), invalid(), "{}", refused.text());
    assert_eq!(price(&refused), 14_000);
    assert_eq!(app.state_of(&payment).await, None);
    assert_eq!(app.pay(&payment).await.status, 200);
    let payment = app.sign_at(&path(&large)).await;
    assert_eq!(app.pay(&payment).await.status, 200);
    assert_eq!(moved(&app).await, [16_000, 12_000, 14_000]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn an_offer_stays_good_after_a_change_of_prices_for_the_size_that_it_was_for() {
    let app = app().await;
    let catalog = &app.app.checkout.as_ref().unwrap().catalog;
    let path = "/api/upload/year";
    let early = [1, 1, MIB + 1];
    let mut signed = Vec::new();
    for bytes in early {
        let payment = app.sign_at(&format!("{path}?bytes={bytes}")).await;
        signed.push(Payment {
            path: path.to_owned(),
            ..payment
        });
    }
    let before = catalog.tiers();
    let dearer = before.iter().map(|tier| match tier.name.as_str() {
        "year" => Tier {
            price_per_mib: AtomicAmount::from_units(50_000),
            ..tier.clone()
        },
        _ => tier.clone(),
    });
    let default = before.default_paid().map(|tier| tier.name.clone());
    let table = TierTable::new(dearer.collect(), default).unwrap();
    catalog.change_tiers(table).await.unwrap();
    let (small, large) = (pictures::png(8, 8), pictures::png_of_size(MIB + 1));
    assert_eq!(price(&asked(&app, path, &small).await), 60_000);
    let refused = app.pay_with(&signed[0], &large).await;
    assert_eq!(refused.verdict(), invalid());
    assert_eq!(price(&refused), 110_000);
    assert_eq!(app.pay_with(&signed[0], &small).await.status, 200);
    assert_eq!(app.pay_with(&signed[1].as_v1(), &small).await.status, 200);
    assert_eq!(app.pay_with(&signed[2], &large).await.status, 200);
    assert_eq!(moved(&app).await, [12_000, 12_000, 14_000]);
    // A step from 0.10 USDC on waits for its block.
    let product = Product {
        kind: ProductKind::Upload,
        tier: "year".to_owned(),
        uses: 1,
        target: None,
        days: None,
    };
    let steps = catalog.terms(&product);
    let waits: Vec<u32> = steps.iter().map(|terms| terms.confirmations).collect();
    assert_eq!(waits, [0, 1, 1]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn an_owed_upload_takes_the_size_that_was_paid() {
    let app = app().await;
    let path = "/api/upload/year";
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Late(Arc::clone(&release)));
    let payment = app.sign_at(&format!("{path}?bytes=9")).await;
    let payment = Payment {
        path: path.to_owned(),
        ..payment
    };
    let image = pictures::png(8, 8);
    let paid = async {
        let token = app.pay_with(&payment, &image).await.token();
        let larger = app
            .upload_with(&token, pictures::png_of_size(MIB + 1))
            .await;
        assert_eq!(larger.error(), "file_too_large");
        let fits = app.upload_with(&token, pictures::png_of_size(MIB)).await;
        assert_eq!(fits.status, 200, "{}", fits.text());
    };
    let removed = async {
        app.facilitator.reached("settle", 1).await;
        let gone = "UPDATE images SET state = 'discarded' WHERE state = 'pending'";
        crate::support::database::execute(app.db(), gone).await;
        release.notify_one();
    };
    tokio::join!(paid, removed);
    assert_eq!(moved(&app).await, [12_000]);
}

#[tokio::test]
async fn price_table_and_checks_state_the_price_by_size() {
    let app = app().await;
    let table = app.get("/api/tiers").await.json();
    let year = &table["tiers"][0];
    assert_eq!(
        (&year["price"]["usd"], &year["pricePerMib"]["usd"]),
        (&json!("0.01"), &json!("0.002"))
    );
    assert_eq!(table["tiers"][1].get("pricePerMib"), None);
    assert_eq!(year.get("imagePrice"), None);
    let image = pictures::png_of_size(MIB + 1);
    let checked = asked(&app, "/api/check", &image).await.json();
    let prices: Vec<&Value> = checked["tiers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tier| &tier["imagePrice"]["usd"])
        .collect();
    assert_eq!(prices, [&json!("0.014"), &Value::Null, &Value::Null]);
    let skill = app.get("/llms.txt").await.text();
    assert!(
        skill.contains("0.01 USDC + 0.002 USDC for each started MiB"),
        "{skill}"
    );
    let openapi = app.get("/openapi.json").await.json();
    let info = &openapi["paths"]["/api/upload"]["post"]["x-payment-info"];
    assert_eq!(
        (&info["minPrice"], &info["maxPrice"]),
        (&json!("0.012"), &json!("0.016")),
        "{info}"
    );
}

#[tokio::test]
async fn the_client_pays_for_each_file_what_its_size_costs() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    std::fs::write(deployment.folder().join("pixtoll.toml"), TIERS).unwrap();
    let _server = deployment.start().await;
    for (name, bytes) in [("small.png", MIB), ("large.png", 2 * MIB)] {
        let image = pictures::png_of_size(bytes);
        std::fs::write(deployment.folder().join(name), image).unwrap();
    }
    let upload = async |more: &[&str]| {
        let base = deployment.base.clone();
        let words = [
            "upload",
            "small.png",
            "large.png",
            "--tier",
            "year",
            "--server",
            &base,
        ];
        let mut command = deployment.bare(&[&words[..], more].concat());
        let command = command.env("HOME", deployment.folder());
        crate::support::process::Ran::of(command.output().await.unwrap())
    };
    let told = upload(&["--dry-run"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(
        told.err.contains("small.png: would pay 0.012")
            && told.err.contains("large.png: would pay 0.014"),
        "{told:?}"
    );
    let done = upload(&["--max-price", "0.014"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.out.lines().count(), 2, "{done:?}");
    let challenge = deployment.answer(&Request::post("/api/upload/year")).await;
    let (payment, _) = deployment.sign_for(&challenge, "/api/upload/year", b"");
    let moved = sandbox.transfers_to(payment.authorization.to).await;
    assert_eq!(moved, [12_000, 14_000]);
    deployment.check_ledger().await;
}
