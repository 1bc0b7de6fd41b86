//! Every key, described once. [`super::describe`] says what comes from these descriptions.

use std::net::SocketAddr;
use std::time::Duration;

use alloy_primitives::Address;
use ipnet::IpNet;

use super::DatabaseUrl;
use super::describe::{Info, section};
use super::payments::{Facilitator, RpcUrls};
use super::read::Reader;
use super::site::Colour;
use super::store::{Addressing, Encryption, StoreLocation};
use super::values::{
    ADDRESS, ADDRESSING, CLOCK, COLOUR, CONTACT, CONTRACT, COUNT, DATABASE, DURATION, ENCRYPTION,
    FACILITATOR, FACILITATOR_URL, HTTP_URL, IP_RANGE, KEEP, LOG_FORMAT, LOOPBACK, NETWORK,
    NETWORK_FACILITATOR, NUMBER, ON_SILENCE, ORIGIN, OWN_RANGE, PORT, PRICE, RPC_URL, RPC_URLS,
    SCANNER_URL, SCHEDULE, SECRET_KEYS, SITE_NAME, SIZE, SMALL, STORE, SWITCH, TEXT, TIER_NAME,
    TOKEN, V1_NAME, WALLET, WORDS,
};
use crate::keys::secrets::Keyring;
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::Network;
use crate::pricing::tiers::{Keep, TierName};
use crate::retention::clock_kind::ClockKind;
use crate::retention::schedule::Schedule;
use crate::system::logs::LogFormat;
use crate::trust::scanner::OnSilence;

/// The keys of each section, in the order of documents.
pub(super) const SECTIONS: &[&[Info]] = &[
    Http::KEYS,
    DatabaseKeys::KEYS,
    Connections::KEYS,
    ImageKeys::KEYS,
    S3Keys::KEYS,
    Variants::KEYS,
    PaymentKeys::KEYS,
    SandboxKeys::KEYS,
    Retention::KEYS,
    SecretKeys::KEYS,
    Money::KEYS,
    Limits::KEYS,
    Import::KEYS,
    Links::KEYS,
    ApiKeys::KEYS,
    Mcp::KEYS,
    Log::KEYS,
    Metrics::KEYS,
    Traces::KEYS,
    SiteKeys::KEYS,
    Operator::KEYS,
    Trust::KEYS,
    ScreenKeys::KEYS,
    AdminKeys::KEYS,
    CdnKeys::KEYS,
];

section! {
    /// The listeners of the server, its public address and the proxies that it trusts.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub Http: "http" {
        /// IP address and port of the public listener.
        listen: SocketAddr = ADDRESS.or("127.0.0.1:4020"),
        /// IP address and port of the admin listener, which serves `/healthz`, `/readyz`,
        /// `/metrics` and the console. Keep it private.
        admin_listen: SocketAddr = ADDRESS.or("127.0.0.1:4021"),
        /// Public address of the API: scheme, host and port. Links and payment challenges are built
        /// from it.
        base_url: String = ORIGIN.or("http://127.0.0.1:4020"),
        /// IP addresses and CIDR ranges of your own proxies. The server believes `X-Forwarded-For`
        /// from these addresses alone, and never reads `Forwarded`.
        trusted_proxies: Vec<IpNet> = IP_RANGE.or("").list(),
    }
}

section! {
    pub(super) DatabaseKeys: "database" {
        /// The database: a SQLite file, which serves one server, or a PostgreSQL database, which
        /// serves any number. `sslmode` in a PostgreSQL URL decides about TLS (`verify-full` with
        /// `sslrootcert` is the safest).
        url: DatabaseUrl = DATABASE.or("sqlite:data/pixtoll.db").secret_url(),
    }
}

section! {
    /// The connections of one process to PostgreSQL. SQLite ignores these keys.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Connections: "database" {
        /// Most connections to PostgreSQL of one server; commands open 4. Keep the sum of all
        /// replicas below `max_connections` of PostgreSQL.
        max_connections: u32 = SMALL.or("16").within("3", "1000"),
        /// How long a request waits for a free connection, and a start for the PostgreSQL server.
        acquire_timeout: Duration = DURATION.or("10s").within("1s", "1h"),
        /// How long PostgreSQL may work on one statement of a server. Statements of commands have no
        /// limit.
        statement_timeout: Option<Duration> = DURATION.or("30s").within("1s", "1h"),
        /// An unused connection is closed after this time.
        idle_timeout: Duration = DURATION.or("10m").within("1s", "1d"),
        /// Every connection is closed after this time, so that servers follow a database that moves
        /// to another address.
        max_lifetime: Duration = DURATION.or("30m").within("1s", "1d"),
    }
}

section! {
    pub(super) ImageKeys: "images" {
        /// Where images are stored: a directory, or a bucket of any S3 API (`s3://bucket/prefix`).
        /// The bucket has to be private.
        store: StoreLocation = STORE.or("data/images"),
        /// Public address of the images. On a public host it needs another origin than
        /// `http.base_url`, since browsers would trust uploads like pages of the API.
        base_url: Option<String> = HTTP_URL.unset("`http.base_url` with `/i`"),
        /// Whether metadata is removed from an image before it is stored. A request overrides this
        /// with its parameter `metadata`.
        clean: bool = SWITCH.or("true"),
        /// Whether uploads may be private, which means that only signed links show the image. Images
        /// that are private already stay private if this is switched off.
        private: bool = SWITCH.or("true"),
        /// How long a signed link to a private image lasts if the request for it does not say.
        link_ttl: Duration = DURATION.or("7d").within("1m", "365d"),
        /// With less free space on the disk of an image directory, uploads and purchases receive
        /// 507, and `/readyz` fails.
        min_free: u64 = SIZE.or("1 GiB"),
        /// Memory of the image cache, which holds images of up to 2 MiB: 4 MiB or more, or 0 for
        /// no cache.
        cache_bytes: u64 = SIZE.or("256 MiB"),
        /// Most pixels of one frame; for WebP half of it.
        max_pixels: u64 = NUMBER.or("100000000").within("1", "500000000"),
        /// Most pixels of all frames of an image together.
        max_total_pixels: u64 = NUMBER.or("300000000").within("1", "10000000000"),
    }
}

section! {
    #[expect(clippy::struct_field_names, reason = "the fields are named as the keys")]
    pub(super) S3Keys: "images" {
        /// Address of the S3 API, for another store than Amazon S3, such as R2, Tigris or Garage.
        s3_endpoint: Option<String> = ORIGIN.unset("Amazon S3")
            .also(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
        /// Region of the bucket. Amazon S3 requires it.
        s3_region: Option<String> = TEXT.unset("`auto` with an endpoint")
            .also(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
        /// Whether requests name the bucket in the path or in the host.
        s3_addressing: Option<Addressing> =
            ADDRESSING.unset("`path` with an endpoint, otherwise `virtual`"),
        /// Id of the access key. Without a key the server takes its credentials from the cloud: web
        /// identity, container credentials, or the metadata service of the machine.
        s3_access_key_id: Option<String> = TEXT.unset("").also(&["AWS_ACCESS_KEY_ID"]),
        /// Secret of the access key.
        s3_secret_access_key: Option<String> =
            TEXT.unset("").secret().also(&["AWS_SECRET_ACCESS_KEY"]),
        /// Session token of a temporary access key.
        s3_session_token: Option<String> = TEXT.unset("").secret().also(&["AWS_SESSION_TOKEN"]),
        /// How the store encrypts objects: `default` (as the bucket is set up), `AES256`, `aws:kms`
        /// or `aws:kms:KEY`.
        s3_encryption: Encryption = ENCRYPTION.or("default"),
        /// Whether each object is sent with a SHA-256 that the store keeps. Turn it off for stores
        /// without checksums.
        s3_checksum: bool = SWITCH.or("true"),
        /// Whether several objects are deleted in one request. Turn it off for stores without
        /// `DeleteObjects`.
        s3_bulk_delete: bool = SWITCH.or("true"),
        /// How long one operation on the store may take, retries included.
        s3_timeout: Duration = DURATION.or("10s").within("1s", "1m"),
    }
}

section! {
    /// Variants: other sizes and formats of images, which links ask for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Variants: "variants" {
        /// How many variants of an image are stored beside it. Further ones are made for each request.
        /// The named sizes are stored in any case.
        per_image: u32 = SMALL.or("32").within("0", "1000"),
        /// How long making a variant may take. Requests for one that takes longer receive 503 `busy`.
        timeout: Duration = DURATION.or("10s").within("100ms", "5m"),
        /// Memory for making variants, and for sending large ones that are not stored.
        memory_bytes: u64 = SIZE.or("256 MiB").within("16 MiB", "64 GiB"),
    }
}

section! {
    pub(super) PaymentKeys: "payments" {
        /// The facilitator that verifies and settles payments: the one of Coinbase, the one at
        /// `payments.facilitator_url`, or the sandbox with play money.
        facilitator: Option<Facilitator> = FACILITATOR.unset("none: paid tiers are off"),
        /// Address of the facilitator. Required for `url`. With `sandbox` and `payments.rpc_url` it
        /// names a `pixtoll sandbox` in another process.
        facilitator_url: Option<String> = FACILITATOR_URL.unset("the one of Coinbase for `coinbase`"),
        /// Sent to `payments.facilitator_url` as `Authorization: Bearer …`.
        facilitator_token: Option<String> = TOKEN.unset("").secret(),
        /// Id of the API key of Coinbase. Required for `coinbase`.
        cdp_key_id: Option<String> = TEXT.unset("").also(&["CDP_API_KEY_ID"]),
        /// Secret of the API key of Coinbase: Ed25519 (base64) or ES256 (PEM).
        cdp_key_secret: Option<String> = TEXT.unset("").secret().also(&["CDP_API_KEY_SECRET"]),
        /// Your address that receives the money. Each deployment needs its own: two ledgers on one
        /// address can't tell their payments apart.
        pay_to: Option<Address> = WALLET.unset("with the sandbox: made at the first start"),
        /// The networks that are offered, best first, at most 4. Test networks and real ones can't be
        /// mixed.
        networks: Vec<&'static Network> =
            NETWORK.unset("`base`; with the sandbox `base-sepolia`").list(),
        /// JSON-RPC endpoint that the server reads the chain from. It decides what counts as paid
        /// where the facilitator gives no final answer. For several networks: `network=URL` for each,
        /// separated by commas.
        rpc_url: Option<RpcUrls> =
            RPC_URLS.unset("built in for `base` and `base-sepolia`, not for production").secret_url(),
        /// A second JSON-RPC endpoint, of another provider, in the same form. It is asked while the first
        /// one fails, and confirms what ends a payment.
        second_rpc_url: Option<RpcUrls> = RPC_URLS.unset("none").secret_url(),
        /// How long the server waits for verify, and a request for settle.
        timeout: Duration = DURATION.or("15s").within("100ms", "90s"),
        /// How long an upload token stays valid.
        token_ttl: Duration = DURATION.or("10m").within("1s", "7d"),
    }
}

section! {
    pub(super) SandboxKeys: "payments" {
        /// Where the sandbox's facilitator listens.
        sandbox_listen: SocketAddr = LOOPBACK.or("127.0.0.1:4022"),
        /// Where the sandbox's JSON-RPC endpoint listens.
        sandbox_rpc_listen: SocketAddr = LOOPBACK.or("127.0.0.1:4023"),
    }
}

section! {
    /// When expired images are deleted, and how long their records are kept.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub Retention: "retention" {
        /// When the reaper deletes expired images: a cron expression in UTC with days of the week by
        /// name, or `off`.
        schedule: Schedule = SCHEDULE.or("* * * * *"),
        /// How long the records of an image are kept after its object is deleted.
        records: Duration = DURATION.or("365d").within("1d", "36500d"),
        /// The independent clocks that may confirm the clock of this machine before anything is
        /// deleted: `chain`, `facilitator`, `database`, `store`. Named clocks count wherever they
        /// run; `none` names no clock.
        clocks: Option<Vec<ClockKind>> = CLOCK.unset("each that is not on this machine").list(),
    }
}

section! {
    pub(super) SecretKeys: "secrets" {
        /// The secret that tokens and receipt keys are derived from, as 64 hex digits or base64.
        /// Required on PostgreSQL, and the same on each replica. Up to 7 older keys may follow,
        /// separated by commas or line ends.
        key: Option<Keyring> =
            SECRET_KEYS.unset("on SQLite: made at the first start in `secrets.key` beside the database")
                .secret(),
    }
}

section! {
    /// What the export of the ledger says of costs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Money: "money" {
        /// What your facilitator charges for a payment that it settles, in decimal USD, for `pixtoll
        /// ledger export`. It changes no price.
        facilitator_fee: AtomicAmount = PRICE.or("0"),
        /// How many settled payments of a calendar month (UTC) cost no fee.
        free_settlements: u64 = COUNT.or("0"),
    }
}

section! {
    /// The limits on what clients may ask for. A count of 0 means no limit.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Limits: "limits" {
        /// Free uploads of the whole service in a UTC day.
        free_per_day: u64 = COUNT.or("1000").live(),
        /// The share of `free_per_day`, in percent, that may be used before 12:00 UTC. The rest may be
        /// used afterwards.
        free_before_noon_percent: u64 = NUMBER.or("50").within("1", "100").live(),
        /// Free uploads and checks of one IPv4 address or one IPv6 /64 in an hour.
        free_per_address_per_hour: u64 = COUNT.or("50").live(),
        /// Free uploads and checks of one IPv4 /24 or one IPv6 /48 in an hour. The default is four
        /// times `free_per_address_per_hour`.
        free_per_network_per_hour: u64 = COUNT.or("200").live(),
        /// How many refused files count as one free upload, for address and network.
        free_refusals_per_upload: u64 = NUMBER.or("10").within("1", "1000").live(),
        /// Payments and challenges of one address in a minute. Payments of contract wallets have a
        /// tenth of it, and so have payments that the chain refuses; refused uploads with a token half.
        payments_per_address_per_minute: u64 = COUNT.or("120").live(),
        /// Images that one address may have the server fetch from URLs in a minute.
        imports_per_address_per_minute: u64 = COUNT.or("30").live(),
        /// Variants of images that are made for one IPv4 address or one IPv6 /64 in a minute. Stored
        /// ones don't count. One IPv4 /24 or one IPv6 /48 has four times as many.
        variants_per_address_per_minute: u64 = COUNT.or("600").live(),
        /// How long the server waits for a whole request body, and for a client that doesn't read its
        /// response. After a sixth of this time, a body has to arrive at 4 KiB a second; a pause may
        /// last a third of it.
        body_timeout: Duration = DURATION.or("1m").within("100ms", "1h"),
        /// Memory for all request bodies until their images are stored. A quarter of it holds cleaned
        /// copies. Requests over this limit receive 503 `busy`. The default grows with the tiers.
        body_bytes: u64 = SIZE.or("256 MiB"),
    }
}

section! {
    /// Imports: images that the server fetches from URLs of its clients.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub Import: "import" {
        /// Whether clients may have images fetched from a URL (`POST /api/import`).
        enabled: bool = SWITCH.or("true"),
        /// The ports that are connected to.
        ports: Vec<u16> = PORT.or("80, 443").list(),
        /// IP addresses and CIDR ranges that are connected to although they are not public, such as
        /// those of your own image servers. By default, only public addresses are.
        allow: Vec<IpNet> = OWN_RANGE.or("").list(),
        /// Fetches from one host in a minute, by all clients of one server together.
        per_host_per_minute: u64 = COUNT.or("60"),
        /// The shortest time that an import may name in `refresh`: the server compares the image
        /// with its URL that often until it expires.
        min_refresh: Duration = DURATION.or("1h").within("5m", "30d"),
    }
}

section! {
    /// Upload links.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Links: "links" {
        /// For how many days an upload link may be bought or made at most.
        max_days: u32 = SMALL.or("90").within("1", "3650"),
    }
}

section! {
    /// API keys of wallets.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub ApiKeys: "keys" {
        /// Uploads that an API key may make in a UTC day at most. A wallet may ask for fewer.
        uploads_per_day: u64 = NUMBER.or("100").within("1", "1000000"),
        /// API keys of one wallet at most, without revoked ones.
        per_wallet: u32 = SMALL.or("10").within("1", "1000"),
    }
}

section! {
    /// What the server refuses to publish.
    pub(super) ScreenKeys: "trust" {
        /// The most bits of 256 in which the PDQ hashes of a picture and of a blocked one differ.
        pdq_distance: u32 = SMALL.or("31").within("0", "64").live(),
        /// The least quality of a picture, from 0 to 100, that is compared with blocked ones. Pictures
        /// without detail have arbitrary PDQ hashes.
        pdq_quality: u32 = SMALL.or("50").within("0", "100").live(),
        /// A file with wallets that buy and upload nothing, such as the digital currency addresses of
        /// OFAC's sanctions list: every `0x…` address in it counts.
        sanctions_file: Option<String> = TEXT.unset("none").live(),
        /// A scanner that sees each new image before it is published and paid (docs/blocks.md).
        scanner_url: Option<String> = SCANNER_URL.unset("none").secret_url(),
        /// Sent to `trust.scanner_url` as `Authorization: Bearer …`.
        scanner_token: Option<String> = TOKEN.unset("none").secret(),
        /// How long an upload waits for the scanner.
        scanner_timeout: Duration = DURATION.or("5s").within("100ms", "1m"),
        /// What it means if the scanner does not answer: `refuse` the image, or `publish` it.
        scanner_on_silence: OnSilence = ON_SILENCE.or("refuse"),
    }
}

section! {
    /// The MCP endpoint, `POST /mcp`.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub Mcp: "mcp" {
        /// Further origins whose pages may call `/mcp` from a browser. Pages of `http.base_url` may
        /// always, and programs that are no browsers need no permission.
        origins: Vec<String> = ORIGIN.or("").list(),
    }
}

section! {
    /// The log of the server.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Log: "log" {
        /// How lines are written to standard error: `text`, or `json` for one object a line. The
        /// flag `--log-format` overrides it.
        format: LogFormat = LOG_FORMAT.or("text"),
        /// Whether each request has a line: its id, route, method, status, tier, bytes and time.
        access: bool = SWITCH.or("true"),
    }
}

section! {
    /// What the server counts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Metrics: "metrics" {
        /// Whether the server counts, and shows the counts at `/metrics` of the admin listener.
        enabled: bool = SWITCH.or("true"),
    }
}

section! {
    /// Traces of requests.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub Traces: "traces" {
        /// URL of a collector that takes OTLP over HTTP as JSON. Traces are sent to `/v1/traces`
        /// below it.
        otlp_endpoint: Option<String> = HTTP_URL.unset("none: there are no traces"),
        /// How many in 100 requests are traced, of those that the server can't answer from memory.
        sample_percent: u64 = NUMBER.or("100").within("1", "100"),
    }
}

section! {
    /// The keys of `[site]`, as they are written.
    pub(super) SiteKeys: "site" {
        /// The name of the service on its pages.
        name: String = SITE_NAME.or("pixtoll"),
        /// The colour of links and buttons, as `#rrggbb`. Its contrast to the background must be 4.5 or more.
        accent: Colour = COLOUR.or("#b93a12"),
        /// The same on dark pages.
        accent_dark: Colour = COLOUR.or("#ff9166"),
        /// A CSS file that the pages load after their own stylesheet, at most 64 KiB.
        stylesheet: Option<String> = TEXT.unset("none"),
    }
}

section! {
    /// The operator of the service, as its public documents name it.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub Operator: "operator" {
        /// Who operates the service, as its pages name it: a person or a company.
        name: Option<String> = TEXT.unset("none"),
        /// How users reach the operator: a `mailto:` or `https:` URL.
        contact: Option<String> = CONTACT.unset("none"),
        /// Where people report images other than by `/abuse`: a `mailto:` or `https:` URL.
        abuse_contact: Option<String> = CONTACT.unset("`operator.contact`"),
        /// The country or state whose law applies, as the terms name it.
        jurisdiction: Option<String> = TEXT.unset("none"),
        /// To whom sexual abuse of children is reported, as the pages name it, such as "the NCMEC tipline".
        csam_authority: Option<String> = TEXT.unset("none: \"the responsible authority\""),
        /// How old uploaders must be, in years, by the terms.
        minimum_age: u32 = SMALL.or("16").within("13", "21"),
        /// Whether the disks with images, database and backups are encrypted. The security page says so.
        encrypted_disks: bool = SWITCH.or("false"),
        /// Contact for security reports in `/.well-known/security.txt`: a `mailto:` or `https:` URL.
        security_contact: Option<String> = CONTACT.unset("none"),
    }
}

section! {
    /// Removed images and legal holds.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub Trust: "trust" {
        /// How long a removed image can be restored. Then it is deleted, unless it is held or expired
        /// earlier.
        restorable: Duration = DURATION.or("30d").within("1d", "3650d"),
        /// How long a legal hold preserves the content of an image. After that the content waits for
        /// a person's decision.
        preserve: Duration = DURATION.or("365d").within("1d", "36500d"),
        /// After how many upheld cases about different images the wallet that uploaded them is blocked.
        /// `0`: never.
        strikes: u32 = SMALL.or("3").within("0", "100"),
    }
}

section! {
    pub(super) AdminKeys: "admin" {
        /// The bearer token of the console and of the admin API under `/admin/api`, on the admin
        /// listener: at least 32 characters. Without a token both are off.
        token: Option<String> = TOKEN.unset("none: the API is off").secret(),
    }
}

section! {
    pub(super) CdnKeys: "cdn" {
        /// Id of the Cloudflare zone in front of `images.base_url`. Removed and deleted images are
        /// purged there.
        cloudflare_zone: Option<String> = TEXT.unset("none: nothing is purged"),
        /// API token of Cloudflare with the permission to purge the cache of the zone.
        cloudflare_token: Option<String> = TOKEN.unset("none").secret(),
        /// Whether Cloudflare's CSAM scanner is on for the zone. The security page says so, and
        /// `pixtoll config check --online` asks Cloudflare.
        csam_scanner: bool = SWITCH.or("false"),
        /// Address of Cloudflare's API.
        api_url: String = FACILITATOR_URL.or("https://api.cloudflare.com/client/v4"),
        /// How long one call of that API may take.
        timeout: Duration = DURATION.or("10s").within("100ms", "20s"),
    }
}

section! {
    pub(super) TierKeys: "tiers" {
        /// Name in routes and records: 1 to 32 lower-case letters, digits and hyphens.
        name: Option<TierName> = TIER_NAME.required("\"year\""),
        /// Price of one image in decimal USD, as text. `"0"` makes the tier free; one tier may be free.
        price: Option<AtomicAmount> = PRICE.unset("required, but for a tier named `free`"),
        /// Price of each started MiB of the image, beside `price`. Tokens, links and imports cost
        /// what an image of `max_bytes` costs.
        price_per_mib: AtomicAmount = PRICE.or("0"),
        /// Largest upload, up to 64 MiB.
        max_bytes: Option<u64> = SIZE.required("\"5 MiB\""),
        /// How long an image is kept, up to 10 years.
        keep: Option<Keep> = KEEP.required("\"30d\" or \"forever\""),
        /// Marks the tier that `POST /api/upload` sells without a tier in its path. Required in one
        /// tier where several have a price.
        default: bool = SWITCH.or("false"),
        /// How many blocks must hold a transfer before the upload is accepted.
        confirmations: Option<u32> =
            SMALL.unset("0; from a price of 0.10 on 1").within("0", "60"),
    }
}

section! {
    pub(super) NetworkKeys: "networks" {
        /// `base`, `base-sepolia`, or the CAIP-2 id of another EVM network.
        id: Option<String> = TEXT.required("\"eip155:43113\""),
        /// JSON-RPC endpoint of this network.
        rpc_url: Option<String> = RPC_URL.unset("`payments.rpc_url`"),
        /// A second JSON-RPC endpoint of this network.
        second_rpc_url: Option<String> = RPC_URL.unset("`payments.second_rpc_url`"),
        /// The facilitator that verifies and settles payments on this network.
        facilitator: Option<Facilitator> = NETWORK_FACILITATOR.unset("`payments.facilitator`"),
        /// Address of the facilitator of this network.
        facilitator_url: Option<String> = FACILITATOR_URL.unset("as for `payments`"),
    }
}

section! {
    pub(super) DefinitionKeys: "networks" {
        /// The USDC contract: six decimals and EIP-3009.
        asset: Option<Address> = CONTRACT.required("\"0x…\", the USDC contract"),
        /// `name` of the contract's EIP-712 domain. A wrong name makes every signature invalid.
        domain_name: Option<String> = WORDS.required("\"USD Coin\""),
        /// `version` of the contract's EIP-712 domain.
        domain_version: Option<String> = WORDS.required("\"2\""),
        /// Whether the money of this network is worth nothing.
        test: Option<bool> = SWITCH.required("true where its money is worth nothing"),
        /// Name of the network in x402 version 1, if it has one.
        v1_name: Option<String> = V1_NAME.unset("none"),
    }
}
