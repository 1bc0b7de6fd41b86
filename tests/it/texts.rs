//! The documents as pages, the tools that people have, and what search engines are told.

use serde_json::Value;

use crate::support::{Answer, TestApp, pictures};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn get(app: &TestApp, path: &str, accept: &str) -> Answer {
    let request = app.http.get(app.url(path)).header("accept", accept);
    Answer::of(request.send().await.unwrap()).await
}

/// The targets of the links of a page to its own server, without anchors.
fn links(html: &str) -> Vec<String> {
    let mut links: Vec<String> = html
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split(['"', '#']).next())
        .filter(|target| target.starts_with('/') && !target.starts_with("//"))
        .map(str::to_owned)
        .collect();
    links.sort();
    links.dedup();
    links
}

#[tokio::test]
async fn documents_are_pages_for_browsers_and_markdown_for_programs() {
    let app = TestApp::spawn().await;
    for (path, title, anchor) in [
        ("/docs", "The API", "id=\"pay-for-an-upload\""),
        ("/docs/images", "Images", "id=\"variants\""),
        ("/docs/operations", "Operating pixtoll", "id="),
    ] {
        let page = get(&app, path, BROWSER).await;
        assert_eq!(page.status, 200, "{path}");
        let media = page.header("content-type");
        assert_eq!(media.as_deref(), Some("text/html; charset=utf-8"), "{path}");
        assert_eq!(page.header("vary").as_deref(), Some("Accept"));
        let html = page.text();
        assert!(html.contains(&format!("<title>{title} · ")), "{path}");
        assert!(html.contains(anchor), "{path} has no {anchor}");
        let canonical = format!("rel=\"canonical\" href=\"{}{path}\"", app.base);
        assert!(html.contains(&canonical), "{path}");
        // The examples name this server, and comments of the source are left out.
        assert!(!html.contains("127.0.0.1:4020"), "{path}");
        assert!(!html.contains("generated:"), "{path}");
        assert!(!html.contains("not run:"), "{path}");
        for accept in ["*/*", "text/markdown"] {
            let text = get(&app, path, accept).await;
            let media = text.header("content-type");
            assert_eq!(media.as_deref(), Some("text/markdown; charset=utf-8"));
            assert!(text.text().starts_with(&format!("# {title}\n")), "{path}");
        }
    }
    // The name of the file is Markdown for everybody.
    let source = get(&app, "/docs/images.md", BROWSER).await;
    let media = source.header("content-type");
    assert_eq!(media.as_deref(), Some("text/plain; charset=utf-8"));
    assert!(source.text().starts_with("# Images\n"));
    let named = get(&app, "/docs/api", BROWSER).await.text();
    assert!(named.contains("<h1 id=\"the-api\">The API</h1>"), "{named}");
}

#[tokio::test]
async fn every_link_between_documents_leads_to_a_page_with_its_anchor() {
    let app = TestApp::spawn().await;
    let mut pages = std::collections::HashMap::new();
    let first = get(&app, "/docs", BROWSER).await.text();
    let paths: Vec<String> = links(&first)
        .into_iter()
        .filter(|path| path.starts_with("/docs"))
        .collect();
    assert!(paths.len() >= 16, "{paths:?}");
    for path in &paths {
        let page = get(&app, path, BROWSER).await;
        assert_eq!(page.status, 200, "{path}");
        pages.insert(path.clone(), page.text());
    }
    let mut anchors = 0;
    for (path, html) in &pages {
        for target in html.split("href=\"").skip(1) {
            let target = target.split('"').next().unwrap();
            let Some((page, anchor)) = target.split_once('#') else {
                continue;
            };
            let page = if page.is_empty() { path } else { page };
            let Some(text) = pages.get(page) else {
                continue;
            };
            anchors += 1;
            assert!(
                text.contains(&format!("id=\"{anchor}\"")),
                "{path} links to {target}"
            );
        }
    }
    assert!(anchors > 100, "{anchors}");
}

#[tokio::test]
async fn tools_are_a_page_and_markdown_with_this_servers_address() {
    let app = TestApp::spawn().await;
    let page = get(&app, "/tools", BROWSER).await.text();
    let text = get(&app, "/tools", "*/*").await.text();
    for expected in [
        format!("{}/tools/pixtoll.sxcu", app.base),
        format!("{}/api/free", app.base),
        "web-uploader".to_owned(),
        "kept 7 days".to_owned(),
    ] {
        assert!(page.contains(&expected), "{expected} is not in the page");
        assert!(text.contains(&expected), "{expected} is not in the text");
    }
    assert!(!text.contains("{{"), "{text}");
    assert!(text.starts_with("# Tools\n"));
}

/// The value that ShareX makes of a syntax such as `{json:sizes.s}`, from a response.
fn parsed(syntax: &str, response: &Value) -> String {
    let path = syntax
        .strip_prefix("{json:")
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or_else(|| panic!("{syntax} is no syntax of ShareX"));
    let value = path.split('.').fold(response, |value, name| &value[name]);
    value
        .as_str()
        .unwrap_or_else(|| panic!("{syntax} finds {value}"))
        .to_owned()
}

/// Sends what ShareX sends by its documentation: a form with the file in the field `FileFormName`.
async fn sharex(app: &TestApp, uploader: &Value, file: Vec<u8>) -> Answer {
    assert_eq!(uploader["Body"], "MultipartFormData");
    let method = uploader["RequestMethod"].as_str().unwrap();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let field = uploader["FileFormName"].as_str().unwrap().to_owned();
    let url = uploader["RequestURL"].as_str().unwrap();
    post_form(app.http.request(method, url), &field, &file).await
}

/// Sends a form with one file.
async fn post_form(request: reqwest::RequestBuilder, field: &str, file: &[u8]) -> Answer {
    let head = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"Screenshot 1.png\"\r\n\
         Content-Type: image/png\r\n\r\n"
    );
    let body = [head.as_bytes(), file, b"\r\n--edge--\r\n"].concat();
    let request = request.header("content-type", "multipart/form-data; boundary=edge");
    Answer::of(request.body(body).send().await.unwrap()).await
}

#[tokio::test]
async fn sharex_uploads_by_the_file_and_reads_the_answer() {
    let app = TestApp::spawn().await;
    let file = get(&app, "/tools/pixtoll.sxcu", "*/*").await;
    assert_eq!(
        file.header("content-disposition").as_deref(),
        Some("attachment; filename=\"127.0.0.1.sxcu\"")
    );
    let uploader = file.json();
    assert_eq!(uploader["DestinationType"], "ImageUploader");
    let of = |name: &str, answer: &Answer| parsed(uploader[name].as_str().unwrap(), &answer.json());
    let answer = sharex(&app, &uploader, pictures::png(12, 12)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for name in ["URL", "ThumbnailURL"] {
        let url = of(name, &answer);
        assert_eq!(app.get(&url).await.status, 200, "{name}: {url}");
    }
    let deletion = of("DeletionURL", &answer);
    let token = answer.field("deleteToken");
    assert!(deletion.starts_with(&app.base), "{deletion}");
    assert!(deletion.ends_with(&format!("#{token}")), "{deletion}");
    let refused = sharex(&app, &uploader, b"no image".to_vec()).await;
    assert_eq!(refused.status, 415);
    assert_eq!(of("ErrorMessage", &refused), refused.field("message"));
}

#[tokio::test]
async fn picgo_uploads_by_the_configuration_and_reads_the_answer() {
    let app = TestApp::spawn().await;
    let text = get(&app, "/tools", "*/*").await.text();
    let json = text.split("```json\n").nth(1).unwrap();
    let json = json.split("```").next().unwrap();
    let config: Value = serde_json::from_str(json).unwrap();
    let config = &config["picBed"]["web-uploader"];
    let field = config["paramName"].as_str().unwrap().to_owned();
    let request = app.http.post(config["url"].as_str().unwrap());
    let answer = post_form(request, &field, &pictures::png(14, 14)).await;
    let url = answer.field(config["jsonPath"].as_str().unwrap());
    assert_eq!(app.get(&url).await.status, 200, "{url}");
}

#[tokio::test]
async fn the_sitemap_lists_pages_that_exist_and_allow_it() {
    let app = TestApp::spawn().await;
    let robots = app.get("/robots.txt").await.text();
    let sitemap = format!("Sitemap: {}/sitemap.xml\n", app.base);
    assert!(robots.contains(&sitemap), "{robots}");
    let listed = app.get("/sitemap.xml").await.text();
    let urls: Vec<&str> = listed
        .split("<loc>")
        .skip(1)
        .filter_map(|rest| rest.split("</loc>").next())
        .collect();
    for path in ["/", "/docs", "/docs/images", "/tools", "/terms"] {
        let url = format!("{}{path}", app.base);
        assert!(urls.contains(&url.as_str()), "{path} is not in {urls:?}");
    }
    for url in urls {
        let page = get(&app, url, BROWSER).await;
        assert_eq!(page.status, 200, "{url}");
        let canonical = format!("<link rel=\"canonical\" href=\"{url}\">");
        assert!(page.text().contains(&canonical), "{url}");
    }
}
