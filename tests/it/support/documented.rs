//! The committed OpenAPI document, which every error of every test has to follow.

use std::sync::LazyLock;

use serde_json::Value;

/// docs/openapi.json.
pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap());

/// Fails where the response of `path` is an error that the document does not list for this path and status.
pub(crate) fn check(path: &str, status: u16, body: &[u8]) {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let (Some(code), Some(action)) = (body["error"].as_str(), body["action"]["type"].as_str())
    else {
        return;
    };
    let codes = DOCUMENT["x-error-codes"].as_array().unwrap();
    let listed = codes.iter().find(|listed| listed["code"] == code);
    let listed = listed.unwrap_or_else(|| panic!("{code} is not documented"));
    assert_eq!(listed["status"], status, "{code}");
    let actions = listed["actions"].as_array().unwrap();
    assert!(
        actions.iter().any(|listed| listed == action),
        "{code}: {action}"
    );
    let Some(operations) = operations_at(path) else {
        return;
    };
    let of_path = operations.values().filter_map(Value::as_object);
    let documented = of_path
        .filter_map(|operation| operation.get("responses")?.get(status.to_string()))
        .any(|response| {
            let body = "/content/application~1json/schema";
            let schema = response
                .pointer(&format!("{body}/allOf/1"))
                .or_else(|| response.pointer(&format!("{body}/anyOf/0/allOf/1")));
            let codes = schema.and_then(|schema| schema["properties"]["error"]["enum"].as_array());
            codes.is_some_and(|codes| codes.iter().any(|listed| listed == code))
        });
    assert!(
        documented || matches!(status, 404 | 405),
        "{path} returned {status} {code}, which docs/openapi.json does not list there"
    );
}

/// What the document says of a path. `None`: it describes no such path.
fn operations_at(path: &str) -> Option<&'static serde_json::Map<String, Value>> {
    let given: Vec<&str> = path.split('/').collect();
    let paths = DOCUMENT["paths"].as_object()?;
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == given.len()
            && parts
                .iter()
                .zip(&given)
                .all(|(part, given)| part == given || part.starts_with('{'))
    };
    // A path without names comes before one with.
    let exact = paths.get(path);
    let found = exact.or_else(|| {
        paths
            .iter()
            .find(|(template, _)| fits(template))
            .map(|(_, item)| item)
    });
    found?.as_object()
}
