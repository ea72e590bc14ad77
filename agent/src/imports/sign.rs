//! A request for an object of S3, signed with AWS Signature Version 4
//! (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html). Pure.
//!
//! Only what is asked for here: a GET of a path, without a query and without a body.

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use k8s_openapi::jiff::Timestamp;
use ring::{digest, hmac};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The digest of no body.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

/// Who asks.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
}

/// The secret is nobody's to read.
impl std::fmt::Debug for Keys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// The headers that sign a GET of `path`, as [`path`] writes it, for the host of this name
    /// (with its port, as `Host` has it).
    ///
    /// # Errors
    /// No header can have the name of who asks.
    pub(super) fn headers(
        &self,
        host: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<HeaderMap, InvalidHeaderValue> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/{}/s3/aws4_request", &time[..8], region(host));
        let request = format!(
            "GET\n{path}\n\n{HOST}:{host}\nx-amz-content-sha256:{NO_BODY}\nx-amz-date:{time}\n\n\
             {SIGNED}\n{NO_BODY}"
        );
        let signature = self.signature(&scope, &time, &request);
        let id = &self.id;
        let said = format!(
            "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
        );
        let mut said = HeaderValue::from_str(&said)?;
        said.set_sensitive(true);
        Ok(HeaderMap::from_iter([
            (AUTHORIZATION, said),
            (HeaderName::from_static("x-amz-content-sha256"), HeaderValue::from_static(NO_BODY)),
            (HeaderName::from_static("x-amz-date"), HeaderValue::from_str(&time)?),
        ]))
    }

    /// The signature of a canonical request.
    fn signature(&self, scope: &str, time: &str, request: &str) -> String {
        let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let first = format!("AWS4{}", self.secret).into_bytes();
        let key = scope.split('/').fold(first, |key, part| seal(&key, part));
        hex(&seal(&key, &format!("{ALGORITHM}\n{time}\n{scope}\n{request}")))
    }
}

fn seal(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The region of a host, as CDI finds it (`pkg/importer/s3-datasource.go`): what stands between
/// `s3.` and `.amazonaws.com`, or else the first part of the name.
fn region(host: &str) -> &str {
    let of_amazon = host.split_once("s3.").and_then(|(_, rest)| rest.split_once(".amazonaws.com"));
    let first = || host.split(['.', ':']).next().unwrap_or_default();
    of_amazon.map_or_else(first, |(region, _)| region)
}

/// A path in the one form that is signed: what is not unreserved (RFC 3986) is encoded, once,
/// and slashes stay.
pub(super) fn path(written: &str) -> String {
    let written = written.as_bytes();
    let mut path = String::new();
    let mut at = 0;
    while let Some(&byte) = written.get(at) {
        let digits = written.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let encoded = digits.filter(|two| two.bytes().all(|one| one.is_ascii_hexdigit()));
        let encoded = encoded.and_then(|two| u8::from_str_radix(two, 16).ok());
        let (byte, length) = match encoded.filter(|_| byte == b'%') {
            // One that is encoded is no separator, whatever it stands for.
            Some(byte) => (byte, 3),
            None => (byte, 1),
        };
        let stays = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || byte == b'/' && length == 1;
        if stays {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
        at += length;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        }
    }

    #[test]
    fn a_signature_is_amazons() {
        // The example "GET Object" of Amazon's description, which asks for a range.
        let request = format!(
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n\
             x-amz-content-sha256:{NO_BODY}\nx-amz-date:20130524T000000Z\n\n\
             host;range;x-amz-content-sha256;x-amz-date\n{NO_BODY}"
        );
        let signature =
            keys().signature("20130524/us-east-1/s3/aws4_request", "20130524T000000Z", &request);
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signature, expected);
    }

    #[test]
    fn a_request_says_who_asks_and_when_and_not_the_secret() {
        let now: Timestamp = "2013-05-24T00:00:01Z".parse().unwrap();
        let headers = keys().headers("store.example:9000", "/b/o", now).unwrap();
        assert_eq!(headers["x-amz-date"], "20130524T000001Z");
        let said = headers[AUTHORIZATION].to_str().unwrap();
        let start =
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/store/s3/aws4_request, ";
        assert!(said.starts_with(start), "{said}");
        assert!(!format!("{headers:?}{:?}", keys()).contains("wJalr"));
    }

    #[test]
    fn a_region_is_where_amazon_has_it_or_the_first_part_of_a_name() {
        for (host, expected) in [
            ("s3.eu-west-1.amazonaws.com", "eu-west-1"),
            ("b.s3.us-west-2.amazonaws.com", "us-west-2"),
            ("minio.example.com:9000", "minio"),
            ("10.0.0.1", "10"),
        ] {
            assert_eq!(region(host), expected);
        }
    }

    #[test]
    fn a_path_is_encoded_once_however_it_is_written() {
        for (written, expected) in [
            ("/b/disk.img", "/b/disk.img"),
            ("/b/a b+c", "/b/a%20b%2Bc"),
            ("/b/a%20b%2bc", "/b/a%20b%2Bc"),
            ("/b/a%2Fb", "/b/a%2Fb"),
            ("/b/100%", "/b/100%25"),
        ] {
            assert_eq!(path(written), expected);
        }
    }
}
