//! Turns documents in Markdown into HTML. They are ours, but nothing in them becomes a tag that Markdown does not make: HTML in
//! a document is shown as text.

use std::collections::HashMap;

use pulldown_cmark::{CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// The most characters of a description.
const LONGEST_DESCRIPTION: usize = 160;

/// A document as HTML.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// Its first heading.
    pub(super) title: String,
    /// The first sentences of its first paragraph.
    pub(super) description: String,
    /// Its content.
    pub(super) html: String,
    /// Its parts.
    pub(super) sections: Vec<Section>,
}

/// A part of a document.
#[derive(Debug)]
pub(super) struct Section {
    /// The anchor of its heading.
    pub(super) anchor: String,
    /// Its heading.
    pub(super) title: String,
}

/// Renders a document. `resolve` returns the address for the target of a link, and `None` for one that leads nowhere, whose
/// text is shown without a link.
pub(super) fn render(text: &str, resolve: impl Fn(&str) -> Option<String>) -> Rendered {
    let mut writer = Writer {
        resolve,
        events: Vec::new(),
        anchors: HashMap::new(),
        heading: None,
        is_linked: false,
        paragraph: Paragraph::Awaited,
        made: Rendered::default(),
    };
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        writer.take(event);
    }
    let Writer {
        events, mut made, ..
    } = writer;
    pulldown_cmark::html::push_html(&mut made.html, events.into_iter());
    made.description = shortened(&made.description);
    made
}

/// A heading whose end has not come yet.
struct Heading<'a> {
    level: HeadingLevel,
    events: Vec<Event<'a>>,
    text: String,
}

/// Where the first paragraph is, which becomes the description.
#[derive(PartialEq, Eq)]
enum Paragraph {
    Awaited,
    Open,
    Over,
}

struct Writer<'a, R> {
    resolve: R,
    events: Vec<Event<'a>>,
    /// How often each anchor was used.
    anchors: HashMap<String, usize>,
    heading: Option<Heading<'a>>,
    /// Whether the link that is open is shown as one.
    is_linked: bool,
    paragraph: Paragraph,
    made: Rendered,
}

impl<'a, R: Fn(&str) -> Option<String>> Writer<'a, R> {
    fn take(&mut self, event: Event<'a>) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                self.heading = Some(Heading {
                    level,
                    events: Vec::new(),
                    text: String::new(),
                });
            }
            Event::End(TagEnd::Heading(_)) => self.end_heading(),
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                // The whole of a heading is a link already.
                let target = (self.resolve)(&dest_url).filter(|_| self.heading.is_none());
                self.is_linked = target.is_some();
                if let Some(target) = target {
                    self.push(Event::Start(Tag::Link {
                        link_type,
                        dest_url: CowStr::from(target),
                        title,
                        id,
                    }));
                }
            }
            Event::End(TagEnd::Link) if !self.is_linked => {}
            Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => {}
            Event::Start(Tag::CodeBlock(kind)) => self.push(begin_block(&kind)),
            Event::End(TagEnd::CodeBlock) => self.push(html("</code></pre></div>\n")),
            Event::Start(Tag::Table(columns)) => {
                self.push(html("<div class=\"scrolls\" tabindex=\"0\">"));
                self.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                self.push(Event::End(TagEnd::Table));
                self.push(html("</div>\n"));
            }
            Event::Html(text) | Event::InlineHtml(text) => {
                if !text.trim_start().starts_with("<!--") {
                    self.push(Event::Text(text));
                }
            }
            other => self.take_text(other),
        }
    }

    fn take_text(&mut self, event: Event<'a>) {
        match &event {
            Event::Start(Tag::Paragraph) if self.paragraph == Paragraph::Awaited => {
                self.paragraph = Paragraph::Open;
            }
            Event::End(TagEnd::Paragraph) if self.paragraph == Paragraph::Open => {
                self.paragraph = Paragraph::Over;
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut self.heading {
                    heading.text.push_str(text);
                } else if self.paragraph == Paragraph::Open {
                    self.made.description.push_str(text);
                }
            }
            Event::SoftBreak if self.paragraph == Paragraph::Open => {
                self.made.description.push(' ');
            }
            _ => {}
        }
        self.push(event);
    }

    fn push(&mut self, event: Event<'a>) {
        match &mut self.heading {
            Some(heading) => heading.events.push(event),
            None => self.events.push(event),
        }
    }

    fn end_heading(&mut self) {
        let Some(heading) = self.heading.take() else {
            return;
        };
        let Heading {
            level,
            events,
            text,
        } = heading;
        let anchor = self.anchor(&text);
        if level == HeadingLevel::H1 {
            self.events.push(html(format!("<{level} id=\"{anchor}\">")));
            self.events.extend(events);
            self.events.push(html(format!("</{level}>\n")));
            self.made.title = text;
            return;
        }
        let begin = format!("<{level} id=\"{anchor}\"><a href=\"#{anchor}\">");
        self.events.push(html(begin));
        self.events.extend(events);
        self.events.push(html(format!("</a></{level}>\n")));
        if level == HeadingLevel::H2 {
            self.made.sections.push(Section {
                anchor,
                title: text,
            });
        }
    }

    /// The anchor of a heading, as GitHub makes it: links that work there work here.
    fn anchor(&mut self, title: &str) -> String {
        let plain: String = title
            .to_lowercase()
            .chars()
            .filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' '))
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .collect();
        let used = self.anchors.entry(plain.clone()).or_default();
        let anchor = match *used {
            0 => plain,
            times => format!("{plain}-{times}"),
        };
        *used += 1;
        anchor
    }
}

fn html<'a>(text: impl Into<CowStr<'a>>) -> Event<'a> {
    Event::Html(text.into())
}

/// The begin of a block of code. A keyboard can scroll it.
fn begin_block<'a>(kind: &CodeBlockKind<'_>) -> Event<'a> {
    let language = match kind {
        CodeBlockKind::Fenced(info) => info.split_whitespace().next().unwrap_or_default(),
        CodeBlockKind::Indented => "",
    };
    let language: String = language
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    html(format!(
        "<div class=\"code\"><pre tabindex=\"0\"><code class=\"language-{language}\">"
    ))
}

/// As many whole sentences as fit a description, at least one.
fn shortened(text: &str) -> String {
    let mut ends = text
        .match_indices(". ")
        .map(|(at, _)| at + 1)
        .chain([text.len()]);
    let first = ends.next().unwrap_or(text.len());
    let end = ends
        .take_while(|end| *end <= LONGEST_DESCRIPTION)
        .last()
        .unwrap_or(first);
    text.get(..end).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Rendered {
        render(text, |target| {
            (!target.starts_with("../")).then(|| format!("/docs/{target}"))
        })
    }

    #[test]
    fn headings_have_the_anchors_of_github_and_are_listed() {
        let made =
            rendered("# A `b` c\n\nOne. Two.\n\n## What's new?\n\n### Deep\n\n## What's new?\n");
        assert_eq!(made.title, "A b c");
        assert_eq!(made.description, "One. Two.");
        let anchors: Vec<&str> = made.sections.iter().map(|it| it.anchor.as_str()).collect();
        assert_eq!(anchors, ["whats-new", "whats-new-1"]);
        let wanted = "<h2 id=\"whats-new\"><a href=\"#whats-new\">What's new?</a></h2>";
        assert!(made.html.contains(wanted), "{}", made.html);
        assert!(made.html.contains("<h3 id=\"deep\">"), "{}", made.html);
    }

    #[test]
    fn html_in_a_document_is_text_and_comments_are_left_out() {
        let made =
            rendered("a <b onclick=\"x\">b</b>\n\n<script>alert(1)</script>\n\n<!-- hidden -->\n");
        assert!(!made.html.contains("<b "), "{}", made.html);
        assert!(!made.html.contains("<script"), "{}", made.html);
        assert!(made.html.contains("&lt;script&gt;"), "{}", made.html);
        assert!(!made.html.contains("hidden"), "{}", made.html);
    }

    #[test]
    fn links_are_resolved_and_those_that_lead_nowhere_are_text() {
        let made = rendered("[one](x.md) and [two](../y.yml) and [three](z.md#a)\n");
        assert!(
            made.html.contains(
                "<a href=\"/docs/x.md\">one</a> and two and <a href=\"/docs/z.md#a\">three</a>"
            ),
            "{}",
            made.html
        );
    }

    #[test]
    fn code_is_escaped_and_can_be_scrolled() {
        let made = rendered("```sh\necho \"<a>\" & b\n```\n");
        let wanted = "<div class=\"code\"><pre tabindex=\"0\"><code class=\"language-sh\">echo \"&lt;a&gt;\" &amp; b\n</code></pre></div>";
        assert_eq!(made.html.trim_end(), wanted);
    }
}
