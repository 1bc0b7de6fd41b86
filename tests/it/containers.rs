//! What a container needs: a health check, and secrets from files.

use crate::support::process::{Deployment, eventually};

#[tokio::test]
async fn a_server_is_healthy_as_long_as_it_lives() {
    let deployment = Deployment::alone();
    let before = deployment.run(&["health"]).await;
    assert_eq!(before.code, Some(1), "{before:?}");
    assert!(
        before
            .out
            .starts_with("not ready: no server responds at 127."),
        "{before:?}"
    );

    let server = deployment.start().await;
    for (arguments, said) in [
        (&["health"][..], "ready\n"),
        (&["health", "--alive"][..], "alive\n"),
    ] {
        let ran = deployment.run(arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), said), "{ran:?}");
    }

    server.kill().await;
    for arguments in [&["health"][..], &["health", "--alive"][..]] {
        let ran = deployment.run(arguments).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
}

#[tokio::test]
async fn a_server_on_a_full_disk_is_alive_but_not_ready() {
    let deployment = Deployment::alone().set("images.min_free", "1000000 GiB");
    let _server = deployment.spawn(&["serve"], "");
    eventually("the server lives", async || {
        let ran = deployment.run(&["health", "--alive"]).await;
        (ran.code == Some(0)).then_some(())
    })
    .await;
    let ran = deployment.run(&["health"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(1), "not ready: free space is below images.min_free\n"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn the_health_command_reports_an_invalid_configuration() {
    let deployment = Deployment::alone().set("http.admin_listen", "nowhere");
    let ran = deployment.run(&["health"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("http.admin_listen"), "{ran:?}");
}

#[tokio::test]
async fn the_database_url_can_come_from_a_file_and_its_password_is_not_shown() {
    let deployment = Deployment::alone();
    let file = deployment.folder().join("database_url");
    std::fs::write(&file, "postgres://pixtoll:hunter2@db.internal/pixtoll\n").unwrap();
    let deployment = deployment
        .set("database.url_file", file.to_str().unwrap())
        .set("secrets.key", &"42".repeat(32));
    let good = deployment.run(&["config", "check"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.contains("postgres://db.internal"), "{good:?}");
    assert!(!good.out.contains("hunter2"), "{good:?}");

    let both = deployment.set("database.url", "sqlite:data/pixtoll.db");
    let ran = both.run(&["config", "check"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("is set beside `database.url`"), "{ran:?}");
}

#[tokio::test]
async fn the_url_of_a_node_can_come_from_a_file_with_its_key() {
    let deployment = Deployment::alone();
    let file = deployment.folder().join("rpc_url");
    std::fs::write(&file, "https://node.example.com/v2/hunter2\n").unwrap();
    let pay_to = format!("0x{}", "22".repeat(20));
    let deployment = deployment
        .set("payments.rpc_url_file", file.to_str().unwrap())
        .set("payments.facilitator", "url")
        .set(
            "payments.facilitator_url",
            "https://facilitator.example.com",
        )
        .set("payments.pay_to", &pay_to);
    let good = deployment.run(&["config", "check"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.contains("node.example.com"), "{good:?}");
    assert!(!good.out.contains("hunter2"), "{good:?}");

    std::fs::write(&file, "ftp://node.example.com/hunter2\n").unwrap();
    let bad = deployment.run(&["config", "check"]).await;
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(bad.out.contains("payments.rpc_url"), "{bad:?}");
    assert!(!bad.out.contains("hunter2"), "{bad:?}");
    let both = deployment.set("payments.rpc_url", "https://other.example.com");
    let ran = both.run(&["config", "check"]).await;
    assert!(
        ran.out.contains("is set beside `payments.rpc_url`"),
        "{ran:?}"
    );
}
