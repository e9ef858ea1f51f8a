//! Acts with unix sockets. What is made stays open for as long as the act's state is held.

use std::io::Error;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

use serde::{Deserialize, Serialize};

use super::compat::{self, By};
use super::{Tried, ring, tried};

/// One act. A name is a path, or `@` and an abstract name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "socket", rename_all = "kebab-case")]
pub enum SocketAct {
    /// Listens.
    Listen {
        /// Where.
        name: String,
    },
    /// Connects.
    Connect {
        /// Where to.
        name: String,
    },
    /// Listens, and connects to that.
    ConnectToSelf {
        /// Where.
        name: String,
    },
    /// Has io_uring connect to a path.
    ConnectByRing {
        /// Where to.
        name: String,
    },
    /// Listens, and does that.
    ConnectToSelfByRing {
        /// Where.
        name: String,
    },
    /// Connects to a path, by the 32-bit table.
    Connect32 {
        /// Where to.
        name: String,
        /// By which call.
        by: By,
    },
    /// Listens, and does that.
    ConnectToSelf32 {
        /// Where.
        name: String,
        /// By which call.
        by: By,
    },
    /// Sends a datagram.
    Send {
        /// Where to.
        name: String,
    },
    /// Receives datagrams, and sends one there.
    SendToSelf {
        /// Where.
        name: String,
    },
}

impl SocketAct {
    /// Does it, in the calling process.
    ///
    /// # Errors
    /// What was tried, and why it failed.
    pub fn perform(&self) -> Tried<()> {
        match self {
            Self::Listen { name } => listen(name),
            Self::Connect { name } => connect(name),
            Self::ConnectToSelf { name } => listen(name).and_then(|()| connect(name)),
            Self::ConnectByRing { name } => connect_by_ring(name),
            Self::ConnectToSelfByRing { name } => listen(name).and_then(|()| connect_by_ring(name)),
            Self::Connect32 { name, by } => connect_32(name, *by),
            Self::ConnectToSelf32 { name, by } => listen(name).and_then(|()| connect_32(name, *by)),
            Self::Send { name } => send(name),
            Self::SendToSelf { name } => {
                let bound = address(name).and_then(|at| UnixDatagram::bind_addr(&at));
                std::mem::forget(tried(format!("bind {name}"), bound)?);
                send(name)
            }
        }
    }
}

fn address(name: &str) -> Result<SocketAddr, Error> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

fn listen(name: &str) -> Tried<()> {
    let listener = address(name).and_then(|at| UnixListener::bind_addr(&at));
    std::mem::forget(tried(format!("listen on {name}"), listener)?);
    Ok(())
}

fn connect(name: &str) -> Tried<()> {
    let stream = address(name).and_then(|at| UnixStream::connect_addr(&at));
    std::mem::forget(tried(format!("connect to {name}"), stream)?);
    Ok(())
}

fn connect_by_ring(name: &str) -> Tried<()> {
    tried(
        format!("connect to {name} by io_uring"),
        ring::connect(name),
    )
}

fn connect_32(name: &str, by: By) -> Tried<()> {
    tried(format!("connect to {name}"), compat::connect(name, by))
}

fn send(name: &str) -> Tried<()> {
    let sent = address(name)
        .and_then(|at| UnixDatagram::unbound()?.send_to_addr(b"1", &at))
        .map(drop);
    tried(format!("send to {name}"), sent)
}
