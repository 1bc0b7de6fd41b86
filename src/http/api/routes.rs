//! The table of routes.

use super::{Body, Operation, Parameter, Price, Route, Success};
use crate::http::error::Code;
use crate::http::error::Code::{
    BadDeleteToken, BadPayment, BadToken, Busy, CaseNotObjectable, CaseNotUpheld, CaseUnknown,
    ConflictingCredentials, ContentBlocked, CorruptImage, DailyLimit, DatabaseUnavailable,
    DeleteFailed, EmptyFile, FacilitatorUnavailable, FetchFailed, FileTooLarge,
    IdempotencyConflict, ImageGone, ImageHeld, ImageRemoved, ImportDisabled, IncompleteBody,
    InvalidBody, InvalidHeader, InvalidParameter, KeyLimit, KeyRevoked, KeySuspended, KeyUnknown,
    LinkExpired, LinkRevoked, LinkUnknown, LinkUsed, Maintenance, MetadataNotKept,
    MethodNotAllowed, NoFile, NoReceipt, NodeUnavailable, NotFound, NotOwner, NotPrivate,
    NotPublic, NotRenewable, OriginNotAllowed, PaymentFailed, PaymentInProgress, PaymentInvalid,
    PaymentKnown, PaymentRequired, PaymentResolved, PaymentsDisabled, PreconditionFailed,
    RangeNotSatisfiable, RateLimited, RecoveryRequired, RemovedForLegalReasons, RenewalInProgress,
    SalesPaused, ScannerUnavailable, SettlementPending, SignInInvalid, SignInRequired, StorageFull,
    StoreUnavailable, TokenExpired, TokenInUse, TokenUsed, TooManyFrames, TooManyKeys,
    TooManyPixels, UnknownFormat, UnknownParameter, UnknownRoute, UnknownTier, UnsupportedFormat,
    UploadFailed, UrlNotAllowed, VariantImpossible, WalletBlocked,
};
use crate::receipts::KEYS_PATH;

const GET: &[&str] = &["GET", "HEAD"];
const POST: &[&str] = &["POST"];
const POST_PUT: &[&str] = &["POST", "PUT"];
const PUT: &[&str] = &["PUT"];
const PUT_POST: &[&str] = &["PUT", "POST"];
const DELETE: &[&str] = &["DELETE"];
const SELL: &[&str] = &["POST", "GET", "HEAD"];
const SELL_UPLOAD: &[&str] = &["POST", "PUT", "GET", "HEAD"];

/// Errors of every route.
pub(in crate::http) const EVERYWHERE: &[Code] = &[
    Code::BadRequest,
    Code::RequestTimeout,
    Code::HeadersTooLarge,
    Maintenance,
];
const QUERY: &[Code] = &[UnknownParameter, InvalidParameter];
const IMAGE: &[Code] = &[
    NoFile,
    EmptyFile,
    InvalidBody,
    IncompleteBody,
    CorruptImage,
    TooManyPixels,
    TooManyFrames,
    MetadataNotKept,
    FileTooLarge,
    UnsupportedFormat,
    Busy,
];
/// What screening refuses. Routes that sell or take an image have all of them.
const SCREEN: &[Code] = &[ContentBlocked, WalletBlocked, ScannerUnavailable];
const STORE: &[Code] = &[
    UploadFailed,
    StoreUnavailable,
    DatabaseUnavailable,
    StorageFull,
];
const FETCH: &[Code] = &[UrlNotAllowed, FetchFailed, ImportDisabled];
const FREE: &[Code] = &[UnknownTier, RateLimited, DailyLimit];
const PAY: &[Code] = &[
    PaymentRequired,
    PaymentInvalid,
    PaymentFailed,
    BadPayment,
    ConflictingCredentials,
    InvalidHeader,
    PaymentInProgress,
    PaymentKnown,
    PaymentResolved,
    IdempotencyConflict,
    ImageGone,
    SettlementPending,
    FacilitatorUnavailable,
    NodeUnavailable,
    PaymentsDisabled,
    SalesPaused,
    RecoveryRequired,
    RateLimited,
    Busy,
    UnknownTier,
    WalletBlocked,
];
const TOKEN: &[Code] = &[BadToken, TokenUsed, TokenInUse, TokenExpired];
/// The secret of an upload link in the place of an upload token.
const LINK_AS_TOKEN: &[Code] = &[LinkUnknown, LinkUsed, LinkExpired, LinkRevoked];
const SIGN_IN: &[Code] = &[
    SignInRequired,
    SignInInvalid,
    InvalidHeader,
    RecoveryRequired,
    NodeUnavailable,
    DatabaseUnavailable,
    RateLimited,
    Busy,
];
const LINK: &[Code] = &[
    LinkUnknown,
    LinkExpired,
    LinkRevoked,
    PaymentKnown,
    PaymentResolved,
    RecoveryRequired,
    RateLimited,
];
const KEY: &[Code] = &[KeyUnknown, KeyRevoked, KeySuspended, KeyLimit, DailyLimit];
const LINK_UPLOAD: &[Code] = &[
    LinkUsed,
    TokenInUse,
    ConflictingCredentials,
    UnknownTier,
    KeyUnknown,
    KeyRevoked,
    KeySuspended,
    KeyLimit,
    DailyLimit,
    PaymentRequired,
    PaymentsDisabled,
    SalesPaused,
];
const LINKS: &[Code] = &[UnknownParameter, BadDeleteToken, NotPrivate];
const LOOKUP: &[Code] = &[NotFound, RateLimited, DatabaseUnavailable, StoreUnavailable];

const IMAGE_BODY: &str = "Send the image as a multipart form (field `image`, else `file`, else the only file), as JSON \
    `{\"image\": \"<base64>\"}`, or as the raw body. The server judges the bytes, not names or headers.";
const FILE_NAME: &str = "For `curl -T`, which appends the name of the file to a URL that ends in a slash. The server ignores the \
    name.";
const PAID: &str = "Without a payment the response is 402 with the offers. Sign one of them and repeat the request with the \
    payment in `PAYMENT-SIGNATURE` (x402 version 2) or `X-PAYMENT` (version 1). The same payment presented again returns the \
    same goods and is never charged twice.";

const fn document(id: &'static str, summary: &'static str, success: Success) -> Operation {
    Operation {
        methods: GET,
        id,
        summary,
        description: "",
        parameters: &[],
        body: Body::None,
        success,
        price: Price::Free,
        errors: &[],
    }
}

/// Every route of the public listener, in the order of documents.
pub(in crate::http) const ROUTES: &[Route] = &[
    Route {
        path: "/api",
        operations: &[document(
            "listRoutes",
            "List the routes of the API.",
            Success::Index,
        )],
    },
    Route {
        path: "/api/tiers",
        operations: &[document(
            "listTiers",
            "List the tiers with their prices and limits.",
            Success::Tiers,
        )],
    },
    Route {
        path: "/api/free",
        operations: &[Operation {
            methods: POST_PUT,
            id: "uploadFree",
            summary: "Upload an image for free.",
            description: IMAGE_BODY,
            parameters: &[Parameter::Metadata, Parameter::Visibility],
            body: Body::Image,
            success: Success::Upload,
            price: Price::Free,
            errors: &[QUERY, IMAGE, SCREEN, STORE, FREE],
        }],
    },
    Route {
        path: "/api/free/{file}",
        operations: &[Operation {
            methods: PUT,
            id: "uploadFreeNamed",
            summary: "Upload an image for free, with a file name in the path.",
            description: FILE_NAME,
            parameters: &[Parameter::Metadata, Parameter::Visibility],
            body: Body::Image,
            success: Success::Upload,
            price: Price::Free,
            errors: &[QUERY, IMAGE, SCREEN, STORE, FREE],
        }],
    },
    Route {
        path: "/api/check",
        operations: &[Operation {
            methods: POST_PUT,
            id: "check",
            summary: "Check an image without storing or charging anything.",
            description: "Answers what an upload would store, which tiers take it and at which price. Bytes that no tier takes \
                receive the error that their upload would. A check counts like a free upload of its address.",
            parameters: &[Parameter::Metadata, Parameter::Visibility],
            body: Body::Image,
            success: Success::Check,
            price: Price::Free,
            errors: &[
                QUERY,
                IMAGE,
                FREE,
                &[ContentBlocked, DatabaseUnavailable, UploadFailed],
            ],
        }],
    },
    Route {
        path: "/api/check/{file}",
        operations: &[Operation {
            methods: PUT,
            id: "checkNamed",
            summary: "Check an image, with a file name in the path.",
            description: FILE_NAME,
            parameters: &[Parameter::Metadata, Parameter::Visibility],
            body: Body::Image,
            success: Success::Check,
            price: Price::Free,
            errors: &[
                QUERY,
                IMAGE,
                FREE,
                &[ContentBlocked, DatabaseUnavailable, UploadFailed],
            ],
        }],
    },
    Route {
        path: "/api/upload/token",
        operations: &[Operation {
            methods: SELL,
            id: "buyToken",
            summary: "Buy an upload token of the default tier.",
            description: "A token is for one upload, or for N with `?images=N`, and expires after ten minutes. Upload with it at \
                `POST /api/upload`.",
            parameters: &[Parameter::Images, Parameter::Payment],
            body: Body::None,
            success: Success::Token,
            price: Price::Default,
            errors: &[QUERY, PAY, STORE],
        }],
    },
    Route {
        path: "/api/upload/token/{tier}",
        operations: &[Operation {
            methods: SELL,
            id: "buyTokenOfTier",
            summary: "Buy an upload token of a tier.",
            description: PAID,
            parameters: &[Parameter::Images, Parameter::Payment],
            body: Body::None,
            success: Success::Token,
            price: Price::OfTier,
            errors: &[QUERY, PAY, STORE],
        }],
    },
    Route {
        path: "/api/upload",
        operations: &[Operation {
            methods: SELL_UPLOAD,
            id: "upload",
            summary: "Upload an image with a token, or pay for it in the same request.",
            description: "With `X-Upload-Token` the token's tier takes the image, with an API key (`Authorization: Bearer`) the free \
                tier or, with `?tier=`, what its wallet bought. Without them the request costs the price of the default tier. The image is checked before anything is charged.",
            parameters: &[
                Parameter::Metadata,
                Parameter::Visibility,
                Parameter::Bytes,
                Parameter::UploadToken,
                Parameter::ApiKey,
                Parameter::Payment,
            ],
            body: Body::Image,
            success: Success::Upload,
            price: Price::Default,
            errors: &[QUERY, PAY, TOKEN, LINK_AS_TOKEN, KEY, IMAGE, SCREEN, STORE],
        }],
    },
    Route {
        path: "/api/upload/{tier}",
        operations: &[Operation {
            methods: SELL_UPLOAD,
            id: "uploadToTier",
            summary: "Upload an image to a tier and pay in the same request.",
            description: PAID,
            parameters: &[
                Parameter::Metadata,
                Parameter::Visibility,
                Parameter::Bytes,
                Parameter::ApiKey,
                Parameter::Payment,
            ],
            body: Body::Image,
            success: Success::Upload,
            price: Price::OfTier,
            errors: &[QUERY, PAY, KEY, TOKEN, IMAGE, SCREEN, STORE],
        }],
    },
    Route {
        path: "/api/upload/{tier}/{file}",
        operations: &[Operation {
            methods: PUT,
            id: "uploadToTierNamed",
            summary: "Upload an image to a tier, with a file name in the path.",
            description: FILE_NAME,
            parameters: &[
                Parameter::Metadata,
                Parameter::Visibility,
                Parameter::ApiKey,
                Parameter::Payment,
            ],
            body: Body::Image,
            success: Success::Upload,
            price: Price::OfTier,
            errors: &[QUERY, PAY, KEY, TOKEN, IMAGE, SCREEN, STORE],
        }],
    },
    Route {
        path: "/api/import",
        operations: &[Operation {
            methods: POST,
            id: "import",
            summary: "Store an image that the server fetches from a URL.",
            description: "Send `{\"url\": \"https://…\"}` and, if you like, `tier`. The credentials are those of an upload: \
                `X-Upload-Token` (a token, or the secret of an upload link), an API key, or a payment; the tier `free` needs \
                none. The image is fetched once the payment is verified and before it is settled, so a URL that yields no \
                image costs nothing. The same payment presented again returns the same image without another fetch.",
            parameters: &[
                Parameter::UploadToken,
                Parameter::ApiKey,
                Parameter::Payment,
            ],
            body: Body::Import,
            success: Success::Upload,
            price: Price::Default,
            errors: &[QUERY, PAY, TOKEN, LINK_AS_TOKEN, KEY, FETCH, IMAGE, STORE],
        }],
    },
    Route {
        path: "/api/links",
        operations: &[
            Operation {
                methods: POST,
                id: "buyLink",
                summary: "Buy an upload link: a URL that takes images until it ends.",
                description: "Hand the link to an agent, a script or a phone: it uploads with any HTTP client, and needs no wallet. The \
                same payment presented again returns the same link. `tier=free` makes a link without a payment, from the free \
                uploads of the client's address.",
                parameters: &[Parameter::Images, Parameter::Link, Parameter::Payment],
                body: Body::None,
                success: Success::Link { in_forms: false },
                price: Price::Default,
                errors: &[QUERY, PAY, STORE, &[DailyLimit, InvalidBody]],
            },
            Operation {
                methods: GET,
                id: "listLinks",
                summary: "List the upload links that a wallet bought.",
                description: "Sign in with the wallet. The links are listed newest first, with what is left of each. One sign-in is enough for all pages.",
                parameters: &[Parameter::Wallet, Parameter::Page],
                body: Body::None,
                success: Success::Links,
                price: Price::Free,
                errors: &[QUERY, SIGN_IN],
            },
        ],
    },
    Route {
        path: "/api/links/{id}",
        operations: &[Operation {
            methods: DELETE,
            id: "revokeOwnLink",
            summary: "Revoke an upload link that a wallet bought.",
            description: "Sign in with the wallet. Whoever has the link can also revoke it, with `DELETE` at the link itself.",
            parameters: &[Parameter::Wallet],
            body: Body::None,
            success: Success::Link { in_forms: false },
            price: Price::Free,
            errors: &[QUERY, SIGN_IN, &[NotFound]],
        }],
    },
    Route {
        path: "/u/{secret}",
        operations: &[
            Operation {
                methods: GET,
                id: "showLink",
                summary: "Show what is left of an upload link.",
                description: "A page with a form for browsers, JSON with `Accept: application/json`, and otherwise text.",
                parameters: &[],
                body: Body::None,
                success: Success::Link { in_forms: true },
                price: Price::Free,
                // An API key in the place of the secret has no page.
                errors: &[QUERY, LINK, &[DatabaseUnavailable, MethodNotAllowed]],
            },
            Operation {
                methods: PUT_POST,
                id: "uploadByLink",
                summary: "Upload an image with an upload link.",
                description: "The response is the link of the image as text, or JSON with `Accept: application/json`. The same bytes \
                    again return the same image, without `deleteToken`. An upload that fails costs no use.",
                parameters: &[Parameter::Metadata, Parameter::Visibility],
                body: Body::Image,
                success: Success::LinkUpload,
                price: Price::Free,
                errors: &[QUERY, LINK, IMAGE, SCREEN, STORE, LINK_UPLOAD],
            },
            Operation {
                methods: DELETE,
                id: "revokeLink",
                summary: "Revoke an upload link.",
                description: "Uploads that are left still belong to the payer: `POST /api/claims` returns a new link for them.",
                parameters: &[],
                body: Body::None,
                success: Success::Link { in_forms: true },
                price: Price::Free,
                // An API key in the place of the secret has no page.
                errors: &[QUERY, LINK, &[DatabaseUnavailable, MethodNotAllowed]],
            },
        ],
    },
    Route {
        path: "/u/{secret}/{file}",
        operations: &[Operation {
            methods: PUT,
            id: "uploadByLinkNamed",
            summary: "Upload an image with an upload link, with a file name in the path.",
            description: FILE_NAME,
            parameters: &[Parameter::Metadata, Parameter::Visibility],
            body: Body::Image,
            success: Success::LinkUpload,
            price: Price::Free,
            errors: &[QUERY, LINK, IMAGE, SCREEN, STORE, LINK_UPLOAD],
        }],
    },
    Route {
        path: "/api/keys",
        operations: &[
            Operation {
                methods: POST,
                id: "makeKey",
                summary: "Make an API key that uploads in the name of a wallet.",
                description: "Sign in with the wallet. The key is shown once. It uploads to the free tier, and with `?tier=` against the upload links and tokens that the wallet bought.",
                parameters: &[Parameter::Wallet],
                body: Body::ApiKey,
                success: Success::ApiKey,
                price: Price::Free,
                errors: &[QUERY, SIGN_IN, &[InvalidBody, TooManyKeys]],
            },
            Operation {
                methods: GET,
                id: "listKeys",
                summary: "List the API keys of a wallet with their usage.",
                description: "Sign in with the wallet.",
                parameters: &[Parameter::Wallet],
                body: Body::None,
                success: Success::ApiKeys,
                price: Price::Free,
                errors: &[QUERY, SIGN_IN],
            },
        ],
    },
    Route {
        path: "/api/keys/{id}",
        operations: &[Operation {
            methods: DELETE,
            id: "revokeKey",
            summary: "Revoke an API key.",
            description: "Sign in with the wallet of the key. A revoked key never uploads again.",
            parameters: &[Parameter::Wallet],
            body: Body::None,
            success: Success::ApiKey,
            price: Price::Free,
            errors: &[QUERY, SIGN_IN, &[NotFound]],
        }],
    },
    Route {
        path: "/api/keys/{id}/suspend",
        operations: &[Operation {
            methods: POST,
            id: "suspendKey",
            summary: "Suspend an API key.",
            description: "Sign in with the wallet of the key.",
            parameters: &[Parameter::Wallet],
            body: Body::None,
            success: Success::ApiKey,
            price: Price::Free,
            errors: &[QUERY, SIGN_IN, &[NotFound, KeyRevoked]],
        }],
    },
    Route {
        path: "/api/keys/{id}/resume",
        operations: &[Operation {
            methods: POST,
            id: "resumeKey",
            summary: "Resume an API key that is suspended.",
            description: "Sign in with the wallet of the key.",
            parameters: &[Parameter::Wallet],
            body: Body::None,
            success: Success::ApiKey,
            price: Price::Free,
            errors: &[QUERY, SIGN_IN, &[NotFound, KeyRevoked]],
        }],
    },
    Route {
        path: "/api/images/{id}",
        operations: &[
            Operation {
                methods: GET,
                id: "getImage",
                summary: "Show the facts about an image.",
                description: "Those of a private image are shown with `exp` and `sig` of a signed link, or with the \
                    `deleteToken` of the upload. Without them it is an unknown image.",
                parameters: &[Parameter::Signature, Parameter::AnyDeleteToken],
                body: Body::None,
                success: Success::Image,
                price: Price::Free,
                errors: &[
                    LOOKUP,
                    &[InvalidHeader, ImageRemoved, RemovedForLegalReasons],
                ],
            },
            Operation {
                methods: DELETE,
                id: "deleteImage",
                summary: "Delete an image.",
                description: "Send the `deleteToken` of the upload, or sign in with the wallet that paid for it. The response \
                    comes after the file is gone, and is the same however often the request is repeated.",
                parameters: &[Parameter::DeleteToken, Parameter::Wallet],
                body: Body::None,
                success: Success::Deleted,
                price: Price::Free,
                errors: &[
                    LOOKUP,
                    SIGN_IN,
                    &[
                        BadDeleteToken,
                        NotOwner,
                        ImageHeld,
                        RenewalInProgress,
                        DeleteFailed,
                    ],
                ],
            },
        ],
    },
    Route {
        path: "/api/images",
        operations: &[
            Operation {
                methods: GET,
                id: "listImages",
                summary: "List the images of a wallet, newest first.",
                description: "Sign in with the wallet. Without a signed message the response is 402 with a challenge of the x402 \
                    extension `sign-in-with-x`; nothing is for sale. The list holds the images that the wallet paid for and that \
                    are served now. One sign-in is enough for all pages.",
                parameters: &[Parameter::Wallet, Parameter::Page],
                body: Body::None,
                success: Success::Images,
                price: Price::Free,
                errors: &[QUERY, SIGN_IN],
            },
            Operation {
                methods: DELETE,
                id: "deleteImages",
                summary: "Delete up to 100 images.",
                description: "Send the delete token of each image, or sign in with the wallet that paid for them. With one wrong \
                    token, or one image of another wallet, nothing is deleted.",
                parameters: &[Parameter::DeleteToken, Parameter::Wallet],
                body: Body::Delete,
                success: Success::Deleted,
                price: Price::Free,
                errors: &[
                    SIGN_IN,
                    &[
                        InvalidBody,
                        IncompleteBody,
                        BadDeleteToken,
                        NotOwner,
                        ImageHeld,
                        RenewalInProgress,
                        DeleteFailed,
                        StoreUnavailable,
                    ],
                ],
            },
        ],
    },
    Route {
        path: "/api/images/{id}/renew",
        operations: &[Operation {
            methods: SELL,
            id: "renew",
            summary: "Buy more time for an image.",
            description: "Adds the time of the image's tier, or of `?tier=`, which then is the tier of the image. Anybody may pay. \
                An image is kept at most ten years ahead. A private image stays private; it is renewed with `exp` and `sig` of a \
                signed link, or with the `deleteToken`.",
            parameters: &[
                Parameter::Tier,
                Parameter::Signature,
                Parameter::AnyDeleteToken,
                Parameter::Payment,
            ],
            body: Body::None,
            success: Success::Renewal,
            price: Price::OfTier,
            errors: &[
                QUERY,
                PAY,
                STORE,
                LOOKUP,
                &[ContentBlocked, NotRenewable, ImageHeld, RenewalInProgress],
            ],
        }],
    },
    Route {
        path: "/api/images/{id}/links",
        operations: &[
            Operation {
                methods: POST,
                id: "signLink",
                summary: "Sign a link to a private image.",
                description: "Whoever has the link sees the image until the link ends. It ends with the image at the latest, and \
                    after a year. Send the `deleteToken` of the upload, or sign in with the wallet that owns the image or that \
                    the upload named as `viewer`: without either the response is a challenge to sign.",
                parameters: &[Parameter::AnyDeleteToken, Parameter::Wallet],
                body: Body::SignedLink,
                success: Success::SignedLink,
                price: Price::Free,
                errors: &[LINKS, SIGN_IN, LOOKUP, &[InvalidBody]],
            },
            Operation {
                methods: DELETE,
                id: "endLinks",
                summary: "End every signed link of a private image.",
                description: "Links that were made before show nothing from now on. New ones can be made. Send the `deleteToken` \
                    of the upload, or sign in with the wallet that owns the image.",
                parameters: &[Parameter::AnyDeleteToken, Parameter::Wallet],
                body: Body::None,
                success: Success::LinksEnded,
                price: Price::Free,
                errors: &[LINKS, SIGN_IN, LOOKUP],
            },
        ],
    },
    Route {
        path: "/api/abuse",
        operations: &[Operation {
            methods: POST,
            id: "report",
            summary: "Report an image.",
            description: "Anybody may report an image. Reports of one image are one case, which a person decides; reports alone remove nothing. The response holds the case number and what happens next.",
            parameters: &[],
            body: Body::Report,
            success: Success::Case,
            price: Price::Free,
            errors: &[
                QUERY,
                &[InvalidBody, NotFound, RateLimited, DatabaseUnavailable],
            ],
        }],
    },
    Route {
        path: "/api/abuse/{case}",
        operations: &[
            Operation {
                methods: GET,
                id: "showCase",
                summary: "Show how far a case is.",
                description: "",
                parameters: &[],
                body: Body::None,
                success: Success::Case,
                price: Price::Free,
                errors: &[QUERY, &[CaseUnknown, RateLimited, DatabaseUnavailable]],
            },
            Operation {
                methods: POST,
                id: "objectToRemoval",
                summary: "Object to the removal of your image for copyright.",
                description: "A counter-notice (17 U.S.C. § 512(g)(3)) to a case that was upheld for copyright, while its image is removed because of it. Show that the image is yours by its delete token, or sign in with the wallet that uploaded it. The operator forwards it to who sent the notice.",
                parameters: &[Parameter::AnyDeleteToken, Parameter::Wallet],
                body: Body::Objection,
                success: Success::Case,
                price: Price::Free,
                errors: &[
                    QUERY,
                    SIGN_IN,
                    &[
                        InvalidBody,
                        CaseUnknown,
                        CaseNotUpheld,
                        CaseNotObjectable,
                        BadDeleteToken,
                        NotOwner,
                    ],
                ],
            },
        ],
    },
    Route {
        path: "/api/claims",
        operations: &[Operation {
            methods: POST,
            id: "claim",
            summary: "Sign in with a wallet and receive what it paid for.",
            description: "Without a signed message the response is 402 with a challenge of the x402 extension `sign-in-with-x`; \
                nothing is for sale. Sign its text (ERC-4361) with `personal_sign` and send the message in `SIGN-IN-WITH-X` or as \
                the body. The response holds every payment of the wallet with uploads left, and live images of direct uploads.",
            parameters: &[Parameter::SignIn, Parameter::After],
            body: Body::SignIn,
            success: Success::Claims,
            price: Price::Free,
            errors: &[
                QUERY,
                SIGN_IN,
                &[InvalidBody, PaymentsDisabled, StoreUnavailable],
            ],
        }],
    },
    Route {
        path: "/api/receipts/{id}",
        operations: &[Operation {
            methods: GET,
            id: "getReceipts",
            summary: "Show the signed receipts of an image.",
            description: "Send the `deleteToken` of the upload, or sign in with the wallet that paid. A wallet that only renewed the \
                image sees its own receipts.",
            parameters: &[Parameter::DeleteToken, Parameter::Wallet],
            body: Body::None,
            success: Success::Receipts,
            price: Price::Free,
            errors: &[LOOKUP, SIGN_IN, &[BadDeleteToken, NotOwner, NoReceipt]],
        }],
    },
    Route {
        path: IMAGE_PATH,
        operations: &[Operation {
            methods: GET,
            id: "showImage",
            summary: "Show an image.",
            description: "`file` is the id of the image, with or without an extension. Another extension than that of its \
                format (png, jpg, webp, avif) and the parameters `w`, `h`, `fit`, `q` and `size` show a variant, which is made \
                when it is first asked for. Caching, ranges and conditional requests work as RFC 9110 and RFC 9111 define them. \
                The server redirects (308) links with an unknown query, an extension in capitals or punctuation glued to the \
                end. A private image is shown by `exp` and `sig` of a signed link alone; without them it is an unknown image, \
                and no shared cache keeps it.",
            parameters: &[
                Parameter::Variant,
                Parameter::Signature,
                Parameter::Conditions,
            ],
            body: Body::None,
            success: Success::Bytes,
            price: Price::Free,
            errors: &[
                LOOKUP,
                &[
                    InvalidParameter,
                    RemovedForLegalReasons,
                    PreconditionFailed,
                    RangeNotSatisfiable,
                    VariantImpossible,
                    Busy,
                ],
            ],
        }],
    },
    Route {
        path: "/oembed",
        operations: &[Operation {
            description: "The image fits into `maxwidth` and `maxheight`. `format=xml` returns the same fields as XML. A private \
                image can't be embedded.",
            parameters: &[Parameter::Embed],
            errors: &[
                LOOKUP,
                &[
                    InvalidParameter,
                    NotPublic,
                    RemovedForLegalReasons,
                    UnknownFormat,
                ],
            ],
            ..document(
                "oembed",
                "Tell another site how to embed an image (oEmbed).",
                Success::Embed,
            )
        }],
    },
    Route {
        path: KEYS_PATH,
        operations: &[Operation {
            errors: &[&[DatabaseUnavailable]],
            ..document(
                "getKeys",
                "Show the keys that receipts and offers are signed with.",
                Success::Keys,
            )
        }],
    },
    Route {
        path: "/proof.json",
        operations: &[Operation {
            description: "Totals by day and since the start, and the ledger's balance against the chain, signed with the key \
                of receipts. Made at most once a minute. The page `/proof` shows and explains it; \
                `pixtoll proof verify` checks it.",
            errors: &[&[DatabaseUnavailable]],
            ..document(
                "getProof",
                "Show what the service did, day by day, and how its ledger compares with the chain.",
                Success::Proof,
            )
        }],
    },
    Route {
        path: "/mcp",
        operations: &[Operation {
            methods: POST,
            id: "mcp",
            summary: "Call a tool by the Model Context Protocol.",
            description: "One JSON-RPC message, without sessions, in the revisions 2026-07-28, 2025-11-25 and 2025-06-18. Tools \
                take no bytes of images. Paid tools speak x402 over MCP. docs/mcp.md describes them.",
            parameters: &[],
            body: Body::Rpc,
            success: Success::Document("application/json"),
            price: Price::Free,
            errors: &[&[
                UnknownParameter,
                InvalidHeader,
                InvalidBody,
                OriginNotAllowed,
            ]],
        }],
    },
    Route {
        path: "/openapi.json",
        operations: &[document(
            "getOpenApi",
            "Show this API as an OpenAPI 3.1 document.",
            Success::Document("application/json"),
        )],
    },
    Route {
        path: "/",
        operations: &[document(
            "getOverview",
            "Introduce the service, as Markdown; browsers receive the front page.",
            Success::Text(MARKDOWN),
        )],
    },
    Route {
        path: "/docs",
        operations: &[document(
            "getDocs",
            "Document the API for readers, as Markdown or as a page.",
            Success::Text(MARKDOWN),
        )],
    },
    Route {
        path: "/docs/{page}",
        operations: &[Operation {
            errors: &[&[UnknownRoute]],
            ..document(
                "getPage",
                "Show another document, such as x402 or images; with .md always as Markdown.",
                Success::Text(MARKDOWN),
            )
        }],
    },
    Route {
        path: "/tools",
        operations: &[document(
            "getTools",
            "Set up programs that people have, as Markdown or as a page.",
            Success::Text(MARKDOWN),
        )],
    },
    Route {
        path: "/tools/pixtoll.sxcu",
        operations: &[document(
            "getShareXUploader",
            "Set up ShareX: the file of a custom uploader.",
            Success::Document("application/json"),
        )],
    },
    Route {
        path: "/llms.txt",
        operations: &[document(
            "getLlmsTxt",
            "Introduce the service to language models.",
            Success::Text(MARKDOWN),
        )],
    },
    Route {
        path: "/SKILL.md",
        operations: &[document(
            "getSkill",
            "Teach an agent to use the service (Agent Skills).",
            Success::Text(MARKDOWN),
        )],
    },
    Route {
        path: "/robots.txt",
        operations: &[document(
            "getRobotsTxt",
            "Tell crawlers what to leave alone.",
            Success::Text("text/plain"),
        )],
    },
    Route {
        path: "/sitemap.xml",
        operations: &[document(
            "getSitemap",
            "List the pages for search engines.",
            Success::Text("application/xml"),
        )],
    },
    Route {
        path: "/.well-known/x402",
        operations: &[document(
            "listPaidRoutes",
            "List the paid routes for x402 crawlers.",
            Success::Document("application/json"),
        )],
    },
    Route {
        path: "/.well-known/api-catalog",
        operations: &[document(
            "getApiCatalog",
            "Link to the descriptions of the API (RFC 9727).",
            Success::Document("application/linkset+json"),
        )],
    },
    Route {
        path: "/.well-known/agent-skills/index.json",
        operations: &[document(
            "listSkills",
            "List the agent skills.",
            Success::Document("application/json"),
        )],
    },
    Route {
        path: "/.well-known/security.txt",
        operations: &[Operation {
            errors: &[&[NotFound]],
            ..document(
                "getSecurityTxt",
                "Name the contact for security reports (RFC 9116); 404 until the operator names one.",
                Success::Text("text/plain"),
            )
        }],
    },
];

/// The path of images in this table. The image origin's own path stands in its place when the API is described.
pub(in crate::http) const IMAGE_PATH: &str = "/i/{file}";
const MARKDOWN: &str = "text/markdown";
