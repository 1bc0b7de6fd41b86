//! Standard input and output between the client and the server. Lines that are no message are answered here, and the
//! server never sees them.

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
    DuplexStream, duplex,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::mcp::frame;

/// The longest line of a client, in bytes. No tool takes bytes of images.
const LONGEST_LINE: usize = 1024 * 1024;
/// The size of the buffers to and from the server, in bytes.
const BUFFER: usize = 64 * 1024;
/// How many lines may wait to be written.
const MOST_WAITING: usize = 16;

/// The tasks that carry lines.
pub(super) struct Lines {
    input: JoinHandle<()>,
    output: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// A line of the client.
enum Line {
    Whole,
    TooLong,
    /// The input ended.
    End,
}

impl Lines {
    /// Carries lines from `input` to the returned reader, and from the returned writer to `output`.
    pub(super) fn between(
        input: impl AsyncRead + Unpin + Send + 'static,
        output: impl AsyncWrite + Unpin + Send + 'static,
    ) -> (Self, DuplexStream, DuplexStream) {
        let (to_server, for_server) = duplex(BUFFER);
        let (of_server, from_server) = duplex(BUFFER);
        let (send, lines) = mpsc::channel(MOST_WAITING);
        let this = Self {
            input: tokio::spawn(take(BufReader::new(input), to_server, send.clone())),
            output: tokio::spawn(give(BufReader::new(from_server), send)),
            writer: tokio::spawn(write(lines, output)),
        };
        (this, for_server, of_server)
    }

    /// Waits until everything that the server said is written. The server has ended.
    pub(super) async fn end(self) {
        self.input.abort();
        for task in [self.input, self.output, self.writer] {
            // The first one was stopped on purpose.
            drop(task.await);
        }
    }
}

/// Passes on the messages of the client, and answers what is none.
async fn take(
    mut input: impl AsyncBufRead + Unpin,
    mut server: DuplexStream,
    answers: mpsc::Sender<Vec<u8>>,
) {
    let mut line = Vec::new();
    loop {
        let refused = match next(&mut input, &mut line).await {
            Ok(Line::End) | Err(_) => return,
            Ok(Line::Whole) if line.trim_ascii().is_empty() => continue,
            Ok(Line::Whole) => frame::check(&line).err(),
            Ok(Line::TooLong) => {
                let text = format!(
                    "The message is longer than the limit of {LONGEST_LINE} bytes. Tools take no bytes of images: send \
                     the arguments that tools/list describes."
                );
                let nobody = serde_json::Value::Null;
                Some(frame::error(&nobody, frame::INVALID_REQUEST, &text))
            }
        };
        let passed = if let Some(error) = refused {
            answers.send(error.to_string().into_bytes()).await.is_ok()
        } else {
            line.truncate(line.trim_ascii_end().len());
            line.push(b'\n');
            server.write_all(&line).await.is_ok()
        };
        if !passed {
            return;
        }
    }
}

/// Passes on what the server says.
async fn give(mut server: impl AsyncBufRead + Unpin, lines: mpsc::Sender<Vec<u8>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        if !matches!(server.read_until(b'\n', &mut line).await, Ok(length) if length > 0) {
            return;
        }
        let said = match frame::explained(&line) {
            Some(answer) => answer.to_string().into_bytes(),
            None => line.trim_ascii_end().to_vec(),
        };
        if lines.send(said).await.is_err() {
            return;
        }
    }
}

async fn write(mut lines: mpsc::Receiver<Vec<u8>>, mut output: impl AsyncWrite + Unpin) {
    while let Some(mut line) = lines.recv().await {
        line.push(b'\n');
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            // Nobody reads the output any more.
            return;
        }
    }
}

/// Reads a line. One that is too long is dropped up to its end.
async fn next(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<Line> {
    line.clear();
    let most = u64::try_from(LONGEST_LINE + 1).unwrap_or(u64::MAX);
    if (&mut *input).take(most).read_until(b'\n', line).await? == 0 {
        return Ok(Line::End);
    }
    if line.len() <= LONGEST_LINE {
        return Ok(Line::Whole);
    }
    while line.last() != Some(&b'\n') {
        line.clear();
        if (&mut *input).take(most).read_until(b'\n', line).await? == 0 {
            break;
        }
    }
    Ok(Line::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_messages_reach_the_server_and_everything_else_is_answered() {
        let long = "x".repeat(LONGEST_LINE + 7);
        let good = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
        let sent = format!("junk\n\n{long}\n{good}\r\n[]");
        let (mut client, output) = duplex(BUFFER);
        let (lines, mut server, of_server) =
            Lines::between(std::io::Cursor::new(sent.into_bytes()), output);
        let mut passed = String::new();
        server.read_to_string(&mut passed).await.unwrap();
        assert_eq!(passed, format!("{good}\n"));
        drop(of_server);
        lines.end().await;
        let mut written = String::new();
        client.read_to_string(&mut written).await.unwrap();
        let codes: Vec<i64> = written
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|answer| answer["error"]["code"].as_i64().unwrap())
            .collect();
        assert_eq!(codes, [-32700, -32600, -32600]);
    }
}
