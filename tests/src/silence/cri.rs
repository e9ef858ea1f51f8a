//! The few calls of the container runtime interface (CRI) that a kubelet makes, by curl: gRPC is HTTP/2 with a length
//! before each message, and a message is fields of numbers and of bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::tool::output;
use crate::runner::Options;

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// With a number.
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// With a text.
    pub(super) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// With texts.
    pub(super) fn texts(self, field: u64, values: &[&str]) -> Self {
        values
            .iter()
            .fold(self, |message, value| message.text(field, value))
    }

    /// With another message.
    pub(super) fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// The first field, which is the text that most replies are about.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn first_text(&self) -> Result<String> {
        let [tag, length, rest @ ..] = self.0.as_slice() else {
            bail!("an empty reply");
        };
        ensure!(
            *tag == 1 << 3 | 2 && *length < 0x80,
            "the reply begins with {tag:#x} {length:#x}"
        );
        let text = rest.get(..usize::from(*length)).context("a short reply")?;
        Ok(String::from_utf8(text.to_vec())?)
    }

    /// Whether a field of this number and value is among the last bytes: the exit code of what was executed.
    pub(super) fn ends_with_number(&self, field: u8) -> Option<u8> {
        match self.0.as_slice() {
            [.., tag, value] if *tag == field << 3 => Some(*value),
            _ => None,
        }
    }

    /// All of it, for messages.
    pub(super) fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// A runtime that listens.
#[derive(Debug)]
pub(super) struct Client<'a> {
    /// Patience.
    pub(super) options: &'a Options,
    /// Its socket.
    pub(super) socket: PathBuf,
    /// Where requests and replies lie.
    pub(super) scratch: &'a Path,
}

impl Client<'_> {
    /// Makes one call of the runtime service.
    ///
    /// # Errors
    /// When the runtime refuses it, with its words.
    pub(super) fn call(&self, method: &str, request: &Message) -> Result<Reply> {
        let [body, head, reply] = ["request", "head", "reply"].map(|name| self.scratch.join(name));
        let mut framed = vec![0];
        framed.extend(u32::try_from(request.0.len())?.to_be_bytes());
        framed.extend(&request.0);
        std::fs::write(&body, framed).context("write a request")?;
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--http2-prior-knowledge",
            "--unix-socket",
        ])
        .arg(&self.socket)
        .args([
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
            "--data-binary",
        ])
        .arg(format!("@{}", body.display()))
        .arg("--dump-header")
        .arg(&head)
        .arg("--output")
        .arg(&reply)
        .arg(format!(
            "http://localhost/runtime.v1.RuntimeService/{method}"
        ));
        output(&mut curl, self.options)?;
        let said = std::fs::read_to_string(&head).context("read a reply's head")?;
        ensure!(said.contains("grpc-status: 0"), "{method}: {}", said.trim());
        let bytes = std::fs::read(&reply).unwrap_or_default();
        Ok(Reply(bytes.get(5..).unwrap_or_default().to_vec()))
    }
}
