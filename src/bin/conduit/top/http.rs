//! A page over HTTP: one request, and no more of an answer than somebody could mean.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// What an answer may have in bytes: a hundred times what a daemon tells.
const MOST: usize = 4 << 20;
/// Of that, its head.
const MOST_HEAD: usize = 16 << 10;

/// Asks for `path`; the text that comes with it, or what is wrong in a few words. Takes no longer than `timeout`, but for
/// finding an address by its name.
pub fn get(address: &str, path: &str, timeout: Duration) -> Result<String, String> {
    let deadline = Instant::now() + timeout;
    let said = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer in {timeout:?}"),
        ErrorKind::ConnectionRefused => "nobody listens".into(),
        _ => error.to_string(),
    };
    let mut stream = connect(address, deadline).map_err(said)?;
    // By address: a daemon answers no page of some site, and that is what a name may be.
    let host = stream.peer_addr().map_err(said)?;
    // Of this version the answer comes whole, up to the end of the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(left(deadline).map_err(said)?)).map_err(said)?;
    stream.write_all(request.as_bytes()).map_err(said)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        stream.set_read_timeout(Some(left(deadline).map_err(said)?)).map_err(said)?;
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(said(error)),
        };
        answer.extend_from_slice(&buffer[..count]);
        if answer.len() > MOST {
            return Err(format!("an answer of more than {MOST} bytes"));
        }
        if let Some(text) = body(&answer, count == 0)? {
            return Ok(text.into());
        }
    }
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "no address has this name");
    for addr in address.to_socket_addrs()? {
        let addr: SocketAddr = addr;
        match TcpStream::connect_timeout(&addr, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Never zero, which would be forever.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The text of an answer, once all of it is there; `is_all` if no more comes.
fn body(answer: &[u8], is_all: bool) -> Result<Option<&str>, String> {
    let searched = &answer[..answer.len().min(MOST_HEAD)];
    let Some(end) = searched.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        // Found out before it is as long as it may be, too: who answers something else is known by the first bytes.
        let is_http = answer.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected);
        return if is_http && !is_all && answer.len() < MOST_HEAD { Ok(None) } else { Err("no answer in HTTP".into()) };
    };
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "no answer in HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split_once(' ')).map(|(_, status)| status);
    match status.and_then(|status| status.get(..3)) {
        Some("200") => {}
        Some(code) if code.bytes().all(|byte| byte.is_ascii_digit()) => return Err(format!("HTTP status {code}")),
        _ => return Err("no answer in HTTP".into()),
    }
    let mut len = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") || name.eq_ignore_ascii_case("content-encoding") {
            return Err("an answer in an encoding that was not asked for".into());
        }
        if name.eq_ignore_ascii_case("content-length") {
            let value: usize = value.trim().parse().map_err(|_| "an answer of no length")?;
            if len.replace(value).is_some_and(|before| before != value) {
                return Err("an answer of two lengths".into());
            }
        }
    }
    let behind = &answer[end + 4..];
    let whole = match len {
        Some(len) if len > MOST => return Err(format!("an answer of more than {MOST} bytes")),
        Some(len) => match behind.get(..len) {
            Some(whole) => whole,
            None if is_all => return Err("the answer was cut".into()),
            None => return Ok(None),
        },
        None if is_all => behind,
        None => return Ok(None),
    };
    std::str::from_utf8(whole).map(Some).map_err(|_| "an answer that is no text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_all_of_it_is_there() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..answer.len() {
            assert_eq!(body(&answer[..cut], false), Ok(None), "{cut}");
            assert!(body(&answer[..cut], true).is_err(), "{cut}");
        }
        assert_eq!(body(answer, false), Ok(Some("hello")));
        assert_eq!(body(&[&answer[..], b"more"].concat(), false), Ok(Some("hello")));
        let without = b"HTTP/1.1 200 OK\r\n\r\nhello";
        assert_eq!((body(without, false), body(without, true)), (Ok(None), Ok(Some("hello"))));
    }

    #[test]
    fn what_is_no_such_answer_is_refused() {
        for (answer, reason) in [
            (&b"SSH-2.0-OpenSSH"[..], "no answer in HTTP"),
            (b"\xff\xfe", "no answer in HTTP"),
            (b"HTTP/1.1 \r\n\r\n", "no answer in HTTP"),
            (b"HTTP/1.1 20\xff OK\r\n\r\n", "no answer in HTTP"),
            ("HTTP/1.1 20\u{e9}\r\n\r\n".as_bytes(), "no answer in HTTP"),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP status 403"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "an answer in an encoding that was not asked for",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "an answer of no length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "an answer of two lengths"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "an answer of more than 4194304 bytes"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff", "an answer that is no text"),
        ] {
            assert_eq!(body(answer, false), Err(reason.into()), "{:?}", String::from_utf8_lossy(answer));
        }
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &vec![b'x'; MOST_HEAD]].concat();
        assert_eq!(body(&endless, false), Err("no answer in HTTP".into()));
    }
}
