//! How the body of an answer over HTTP/1.1 ends, and taking it apart until it does. Pure.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Buf as _, Bytes, BytesMut};

use super::wire::{MAX_HEAD, MAX_HEADERS, Malformed};

/// The longest line that announces a chunk: a length and extensions that nobody uses.
const MAX_CHUNK_LINE: usize = 256;

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// By its last chunk.
    Chunked(Chunk),
    /// With the connection.
    Close,
}

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// A line that says how long the next chunk is.
    Line,
    /// So many bytes of a chunk's data are left.
    Data(u64),
    /// The end of a chunk's line.
    End,
    /// After the last chunk.
    Trailer,
}

/// What the next bytes of a body are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Data.
    Data(Bytes),
    /// More must be read.
    Read,
    /// It has ended, with these trailers.
    End(Option<Box<HeaderMap>>),
}

impl Framing {
    /// Whether no byte is to come.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// Takes what there is of a body off what was read.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Next, Malformed> {
        match self {
            Self::Length(0) => Ok(Next::End(None)),
            Self::Length(left) => Ok(take_data(left, read)),
            Self::Close if read.is_empty() => Ok(Next::Read),
            Self::Close => Ok(Next::Data(read.split().freeze())),
            Self::Chunked(chunk) => loop {
                match chunk {
                    Chunk::Line => match chunk_length(read)? {
                        None => return Ok(Next::Read),
                        Some(0) => *chunk = Chunk::Trailer,
                        Some(length) => *chunk = Chunk::Data(length),
                    },
                    Chunk::Data(left) => {
                        let next = take_data(left, read);
                        if *left == 0 {
                            *chunk = Chunk::End;
                        }
                        return Ok(next);
                    }
                    Chunk::End => {
                        if read.len() < 2 {
                            return Ok(Next::Read);
                        }
                        if read[..2] != *b"\r\n" {
                            return Err(Malformed("a chunk longer than it says"));
                        }
                        read.advance(2);
                        *chunk = Chunk::Line;
                    }
                    Chunk::Trailer => {
                        let next = take_trailers(read)?;
                        if next != Next::Read {
                            *self = Self::Length(0);
                        }
                        return Ok(next);
                    }
                }
            },
        }
    }
}

fn take_data(left: &mut u64, read: &mut BytesMut) -> Next {
    if read.is_empty() {
        return Next::Read;
    }
    let there = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
    *left -= there as u64;
    Next::Data(read.split_to(there).freeze())
}

fn chunk_length(read: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    // The parser takes an empty line for a length of nothing.
    if read.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(Malformed("a chunk without a length"));
    }
    match httparse::parse_chunk_size(read) {
        Ok(httparse::Status::Complete((length, size))) => {
            read.advance(length);
            Ok(Some(size))
        }
        Ok(httparse::Status::Partial) if read.len() > MAX_CHUNK_LINE => Err(Malformed("too long a chunk line")),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Malformed("a chunk without a length")),
    }
}

fn take_trailers(read: &mut BytesMut) -> Result<Next, Malformed> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Next::End(None));
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(read, &mut slots) {
        Ok(httparse::Status::Complete((length, parsed))) => {
            let mut trailers = HeaderMap::new();
            for header in parsed {
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let value = HeaderValue::from_bytes(header.value);
                let (Ok(name), Ok(value)) = (name, value) else { return Err(Malformed("a trailer that is none")) };
                trailers.append(name, value);
            }
            read.advance(length);
            Ok(Next::End(Some(Box::new(trailers))))
        }
        Ok(httparse::Status::Partial) if read.len() >= MAX_HEAD => Err(Malformed("too long a trailer")),
        Ok(httparse::Status::Partial) => Ok(Next::Read),
        Err(_) => Err(Malformed("a trailer that is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(framing: &mut Framing, bytes: &str) -> Result<(String, Next), Malformed> {
        let (mut read, mut seen) = (BytesMut::from(bytes), String::new());
        loop {
            match framing.take(&mut read)? {
                Next::Data(data) => seen.push_str(std::str::from_utf8(&data).unwrap()),
                other => return Ok((seen, other)),
            }
        }
    }

    #[test]
    fn chunks_are_put_together_and_their_trailers_kept() {
        let chunked = || Framing::Chunked(Chunk::Line);
        let whole = "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\ngrpc-status: 0\r\n\r\n";
        let (seen, end) = body(&mut chunked(), whole).unwrap();
        assert_eq!(seen, "hello world");
        let Next::End(Some(trailers)) = end else { panic!("{end:?}") };
        assert_eq!(trailers["grpc-status"], "0");
        for cut in 0..whole.len() {
            let mut framing = chunked();
            let (first, next) = body(&mut framing, &whole[..cut]).unwrap();
            assert_eq!(next, Next::Read, "{cut}");
            assert!("hello world".starts_with(&first));
        }
        for bad in [
            "x\r\n",
            "\r\n",
            ";ext\r\n",
            "5\r\nhelloX\r\n",
            "-1\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert!(body(&mut chunked(), bad).is_err(), "{bad}");
        }
        let endless = format!("5;{}", "x".repeat(MAX_CHUNK_LINE));
        assert!(body(&mut chunked(), &endless).is_err());
    }
}
