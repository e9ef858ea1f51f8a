//! Which ends of unix connections belong together, as the kernel tells it over netlink (`sock_diag(7)`).
//!
//! It tells each network namespace of its own sockets alone. So a thread goes into each in turn and asks there; the thread
//! ends with that. Inode numbers of sockets are the machine's: one end may be in one namespace and the other in another.

use rustix::fs::{fstat, stat};
use rustix::io::retry_on_intr;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `UDIAG_SHOW_PEER`, and the attribute that this asks for.
const SHOW_PEER: u32 = 4;
const PEER: u16 = 2;
/// `AF_UNIX`.
const UNIX: u8 = 1;
/// The caller's own namespace.
const OWN: &str = "/proc/thread-self/ns/net";
/// Room for one answer: the kernel fills half of that at most.
const ROOM: usize = 64 << 10;
/// Ends that are looked at.
const MAX_ENDS: usize = 1 << 18;

/// `struct nlmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    number: u32,
    port: u32,
}

/// `struct unix_diag_req`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    padding: u16,
    states: u32,
    ino: u32,
    show: u32,
    cookie: [u32; 2],
}

/// `struct unix_diag_msg`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Answer {
    family: u8,
    kind: u8,
    state: u8,
    padding: u8,
    ino: u32,
    cookie: [u32; 2],
}

/// Each connected socket's other end, by inode number.
pub(super) type Peers = HashMap<u32, u32>;

/// Asks in a network namespace.
///
/// # Errors
/// When it may not be entered, or the kernel has no answer (it needs `CONFIG_UNIX_DIAG`).
pub(super) fn ask(namespace: BorrowedFd<'_>, peers: &mut Peers) -> io::Result<()> {
    if fstat(namespace)?.st_ino == stat(OWN)?.st_ino {
        return ask_here(peers);
    }
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            ask_here(peers)
        });
        let done = there.join();
        done.unwrap_or_else(|_| Err(io::Error::other("the thread that asked panicked")))
    })
}

fn ask_here(peers: &mut Peers) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let request = Request {
        header: Header {
            length: const { size_of::<Request>() as u32 },
            kind: BY_FAMILY,
            flags: DUMP,
            number: 1,
            port: 0,
        },
        family: UNIX,
        protocol: 0,
        padding: 0,
        states: u32::MAX,
        ino: 0,
        show: SHOW_PEER,
        cookie: [0; 2],
    };
    let kernel = SocketAddrNetlink::new(0, 0);
    let send = || sendto(&socket, request.as_bytes(), SendFlags::empty(), &kernel);
    retry_on_intr(send)?;
    let mut room = vec![0; ROOM];
    loop {
        let (_, length) =
            retry_on_intr(|| recv(socket.as_fd(), room.as_mut_slice(), RecvFlags::TRUNC))?;
        let bytes = room.get(..length);
        let bytes = bytes.ok_or_else(|| io::Error::other("an answer does not fit"))?;
        if take(bytes, peers)? {
            return Ok(());
        }
    }
}

/// Takes in a packet of messages; says whether it was the last one.
fn take(mut bytes: &[u8], peers: &mut Peers) -> io::Result<bool> {
    while let Ok((header, _)) = Header::read_from_prefix(bytes) {
        let cut = || io::Error::other("an answer is cut short");
        let length = header.length as usize;
        let message = bytes.get(size_of::<Header>()..length).ok_or_else(cut)?;
        match header.kind {
            // Either may have an error number in front.
            DONE | ERROR => {
                let number = i32::read_from_prefix(message).map_or(0, |(number, _)| number);
                return match number {
                    0 => Ok(true),
                    number => Err(io::Error::from_raw_os_error(number.wrapping_neg())),
                };
            }
            BY_FAMILY => {
                let (answer, attributes) = Answer::read_from_prefix(message).map_err(|_| cut())?;
                if let Some(peer) = peer(attributes)
                    && peers.len() < MAX_ENDS
                {
                    peers.insert(answer.ino, peer);
                }
            }
            _ => {}
        }
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attribute that names the other end.
fn peer(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let ([length, kind], _) = <[u16; 2]>::read_from_prefix(attributes).ok()?;
        let value = attributes.get(size_of::<[u16; 2]>()..usize::from(length))?;
        if kind == PEER {
            let (peer, _) = u32::read_from_prefix(value).ok()?;
            return (peer != 0).then_some(peer);
        }
        attributes = attributes.get(aligned(usize::from(length))..)?;
    }
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    //! Goal: the kernel's answer is read, and anything else does no harm. Method: sockets of this process, and bytes.

    use super::*;
    use proptest::prelude::*;
    use std::os::linux::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_ends_of_a_connection_are_found() {
        let (a, b) = UnixStream::pair().unwrap();
        let ino = |end: &UnixStream| {
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(end));
            u32::try_from(std::fs::metadata(link).unwrap().st_ino()).unwrap()
        };
        let mut peers = Peers::new();
        // A kernel may be built without.
        let own = std::fs::File::open(OWN).unwrap();
        match ask(own.as_fd(), &mut peers) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(peers.get(&ino(&a)), Some(&ino(&b)));
        assert_eq!(peers.get(&ino(&b)), Some(&ino(&a)));
    }

    #[test]
    fn an_error_is_one() {
        let mut bytes = Vec::new();
        for word in [20_u32, u32::from(ERROR), 1, 0, 2_u32.wrapping_neg()] {
            bytes.extend(word.to_ne_bytes());
        }
        let error = take(&bytes, &mut Peers::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2));
        assert!(take(&bytes[..18], &mut Peers::new()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256), kind in 0_u8..24) {
            let mut bytes = bytes;
            if let Some(place) = bytes.get_mut(4) {
                *place = kind;
            }
            let _ = take(&bytes, &mut Peers::new());
        }
    }
}
