//! As much of HTTP/1.1 (RFC 9112) as a control channel needs: requests with a known length, answers in one piece. Owns the
//! framing and its limits; does no I/O and knows no commands.

/// Longest head of a request in bytes.
pub const HEAD_LEN_MAX: usize = 8 * 1024;
/// Longest body of a request in bytes.
pub const BODY_LEN_MAX: usize = 64 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 32;

/// What the bytes received so far are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received<'b> {
    /// The beginning of a request. `continues`: the client waits to hear that it may send the body.
    Part {
        /// Answer [`CONTINUE`], once.
        continues: bool,
    },
    /// A request.
    Whole(Request<'b>),
    /// Nothing that can be answered but with this status, after which the connection is closed.
    Broken {
        /// The status.
        status: u16,
        /// Why.
        why: &'static str,
    },
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request<'b> {
    /// The method, as sent.
    pub method: &'b str,
    /// The path, without a query.
    pub path: &'b str,
    /// The body.
    pub body: &'b [u8],
    /// How many bytes it took.
    pub len: usize,
    /// The client may send another one on this connection.
    pub keep_alive: bool,
}

/// Tells a client to go on and send the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Looks for a request at the beginning of `bytes`.
#[must_use]
pub fn receive(bytes: &[u8]) -> Received<'_> {
    const fn broken<'b>(status: u16, why: &'static str) -> Received<'b> {
        Received::Broken { status, why }
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_LEN_MAX => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LEN_MAX => {
            return Received::Part { continues: false };
        }
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return broken(431, "the head is too long"),
        Err(_) => return broken(400, "it is not HTTP"),
    };
    let (Some(method), Some(target)) = (head.method, head.path) else {
        return broken(400, "it is not HTTP");
    };
    // HTTP/1.0 closes unless told otherwise; here it always closes.
    let mut keep_alive = head.version == Some(1);
    let mut continues = false;
    let mut body_len = None;
    for header in head.headers.iter() {
        let named = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        if named("content-length") {
            // Digits only: a sign or a list would be read differently by others.
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let len = value.parse::<usize>().ok().filter(|_| digits);
            match (len, body_len) {
                (Some(len), None) => body_len = Some(len),
                _ => return broken(400, "the Content-Length makes no sense"),
            }
        } else if named("transfer-encoding") {
            return broken(411, "the body needs a Content-Length");
        } else if named("connection") {
            let closes = |option: &str| option.trim().eq_ignore_ascii_case("close");
            keep_alive &= !value.split(',').any(closes);
        } else if named("expect") {
            continues = value.eq_ignore_ascii_case("100-continue");
        }
    }
    let body_len = body_len.unwrap_or(0);
    if body_len > BODY_LEN_MAX {
        return broken(413, "the body is longer than 64 KiB");
    }
    let len = head_len.saturating_add(body_len);
    let Some(body) = bytes.get(head_len..len) else {
        return Received::Part { continues };
    };
    Received::Whole(Request {
        method,
        path: target.split('?').next().unwrap_or(target),
        body,
        len,
        keep_alive,
    })
}

/// An answer with a JSON body on one line, and `headers` (lines that end in CRLF).
#[must_use]
pub fn answer(status: u16, headers: &str, body: &str, keep_alive: bool) -> Vec<u8> {
    let reason = reason(status);
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let len = body.len().saturating_add(1);
    format!(
        "HTTP/1.1 {status} {reason}\r\n{headers}Content-Type: application/json\r\nContent-Length: {len}\r\nConnection: {connection}\r\n\r\n{body}\n"
    )
    .into_bytes()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, reason = "a test may panic")]

    use super::*;

    fn whole(bytes: &[u8]) -> Request<'_> {
        let Received::Whole(request) = receive(bytes) else {
            panic!("{}", String::from_utf8_lossy(bytes));
        };
        request
    }

    fn status_of(bytes: &[u8]) -> u16 {
        let Received::Broken { status, .. } = receive(bytes) else {
            panic!("{}", String::from_utf8_lossy(bytes));
        };
        status
    }

    #[test]
    fn a_request_is_whole_at_its_last_byte_and_not_before() {
        let bytes = b"POST /v1/post?x=1 HTTP/1.1\r\nHost: x\r\ncontent-length: 4\r\n\r\nbodyGET ";
        let len = bytes.len() - 4;
        for cut in 0..len {
            let part = bytes.get(..cut).unwrap_or_default();
            assert_eq!(receive(part), Received::Part { continues: false }, "{cut}");
        }
        let request = whole(bytes);
        assert_eq!((request.method, request.path), ("POST", "/v1/post"));
        assert_eq!((request.body, request.len), (&b"body"[..], len));
        assert!(request.keep_alive);
    }

    #[test]
    fn a_connection_ends_when_either_side_wants_it_to() {
        assert!(!whole(b"GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(!whole(b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n").keep_alive);
        assert!(whole(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn a_client_that_waits_for_leave_is_given_it() {
        let bytes = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(receive(bytes), Received::Part { continues: true });
    }

    #[test]
    fn lengths_that_others_may_read_differently_are_refused() {
        for length in [
            "-1",
            "+1",
            "1, 1",
            "",
            "0x1",
            "99999999999999999999",
            "1\r\nContent-Length: 1",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\nx");
            assert_eq!(status_of(bytes.as_bytes()), 400, "{length}");
        }
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(status_of(chunked), 411);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_there() {
        let at_most = format!("POST / HTTP/1.1\r\nContent-Length: {BODY_LEN_MAX}\r\n\r\n");
        assert_eq!(
            receive(at_most.as_bytes()),
            Received::Part { continues: false }
        );
        let beyond = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            BODY_LEN_MAX + 1
        );
        assert_eq!(status_of(beyond.as_bytes()), 413);
        let endless = format!("GET /{}", "x".repeat(HEAD_LEN_MAX));
        assert_eq!(status_of(endless.as_bytes()), 431);
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(status_of(many.as_bytes()), 431);
        assert_eq!(status_of(b"hello\r\n\r\n"), 400);
    }

    #[test]
    fn an_answer_is_one_line_of_json_with_its_length() {
        let bytes = answer(404, "Strandline-Exit: 3\r\n", r#"{"v":1}"#, false);
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "HTTP/1.1 404 Not Found\r\nStrandline-Exit: 3\r\nContent-Type: application/json\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{\"v\":1}\n"
        );
    }
}
