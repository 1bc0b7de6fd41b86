//! What a server says about an image, a link or a key, for display. No I/O.

use serde_json::Value;

use super::answer::{Reply, plain};

/// The most characters of one value that are shown.
const MAX_TEXT_CHARS: usize = 200;

/// A JSON object from the server.
pub struct Facts(Value);

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may hold a secret, such as the key that was just made.
        f.write_str("Facts")
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The entries, in the server's order.
    pub items: Vec<Facts>,
    /// What names the next page. `None`: this is the last one.
    pub next: Option<String>,
}

impl Page {
    /// Reads the list with this name. `None`: the response holds no such list.
    pub(super) fn read(reply: &Reply, name: &str) -> Option<Self> {
        let items = reply.get(&format!("/{name}"))?.as_array()?;
        let items = items.iter().filter(|item| item.is_object());
        Some(Self {
            items: items.cloned().map(Facts).collect(),
            next: reply
                .get("/next")
                .and_then(Value::as_str)
                .map(str::to_owned),
        })
    }
}

impl Reply {
    /// The JSON object of a response. `None`: its body is none.
    pub(super) fn facts(&self) -> Option<Facts> {
        let body = self.get("")?;
        body.is_object().then(|| Facts(body.clone()))
    }
}

impl Facts {
    /// The JSON in one line.
    pub fn json(&self) -> String {
        self.0.to_string()
    }

    /// A text by its JSON pointer, without control characters. `None`: it is absent or no text.
    pub fn text(&self, pointer: &str) -> Option<String> {
        let text = self.0.pointer(pointer)?.as_str()?;
        Some(plain(text).chars().take(MAX_TEXT_CHARS).collect())
    }

    /// A whole number by its JSON pointer. `None`: it is absent or no such number.
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer)?.as_u64()
    }

    /// The number of entries of a list by its JSON pointer.
    pub fn count(&self, pointer: &str) -> usize {
        let list = self.0.pointer(pointer).and_then(Value::as_array);
        list.map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn texts_have_no_control_characters_and_an_end() {
        let long = "x".repeat(500);
        let body = format!(r#"{{"a":"one\u001b[2J\ntwo","b":"{long}","n":7,"l":[1,2]}}"#);
        let reply = Reply::new(200, &HeaderMap::new(), body.as_bytes());
        let facts = reply.facts().unwrap();
        assert_eq!(facts.text("/a").unwrap(), "one[2Jtwo");
        assert_eq!(facts.text("/b").unwrap().len(), MAX_TEXT_CHARS);
        assert_eq!((facts.number("/n"), facts.count("/l")), (Some(7), 2));
        assert_eq!((facts.text("/n"), facts.text("/none")), (None, None));
        assert_eq!(facts.json().lines().count(), 1);
        for body in ["", "[]", "1", "<html>"] {
            let reply = Reply::new(200, &HeaderMap::new(), body.as_bytes());
            assert!(reply.facts().is_none(), "{body}");
            assert!(Page::read(&reply, "images").is_none(), "{body}");
        }
    }
}
