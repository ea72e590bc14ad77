//! Tokens, each of which lets whoever has it send a disk to one claim: a JSON Web Token (RFC
//! 7519) sealed with HMAC-SHA256. Pure.
//!
//! Whoever has one is asked nothing else, so it is good for minutes, as CDI's are.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::path::{TOKEN_KIND, UPLOADS, UPLOADS_VERSIONS, is_name};

/// How long one is good for.
const LIFETIME: SignedDuration = SignedDuration::from_secs(300);
/// How far the clocks of two controllers may be apart.
const LEEWAY: SignedDuration = SignedDuration::from_secs(10);
/// The only form that is given or taken.
const HEAD: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// By whom.
const ISSUER: &str = "berth.io/uploads";

/// The claim that it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::subresources) struct Token {
    pub(in crate::subresources) namespace: String,
    pub(in crate::subresources) name: String,
}

#[derive(Deserialize, Serialize)]
struct Said {
    iss: String,
    iat: i64,
    exp: i64,
    namespace: String,
    name: String,
}

impl Token {
    /// It, as text.
    pub(in crate::subresources) fn write(&self, seal: &hmac::Key, now: Timestamp) -> String {
        let said = Said {
            iss: ISSUER.to_owned(),
            iat: now.as_second(),
            exp: now.as_second() + LIFETIME.as_secs(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        };
        let said = json!(said).to_string();
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEAD), URL_SAFE_NO_PAD.encode(said));
        let tag = hmac::sign(seal, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The token that a text is, if it is one, and good.
    pub(in crate::subresources) fn read(
        seal: &hmac::Key,
        text: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let (text, tag) = text.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        // Nothing of it is read before that: what its head says does not count.
        hmac::verify(seal, text.as_bytes(), &tag).ok()?;
        let said = URL_SAFE_NO_PAD.decode(text.split_once('.')?.1).ok()?;
        let Said { iss, iat, exp, namespace, name } = serde_json::from_slice(&said).ok()?;
        let (now, leeway) = (now.as_second(), LEEWAY.as_secs());
        let is_good = iss == ISSUER && iat <= now + leeway && now <= exp + leeway;
        is_good.then_some(Self { namespace, name })
    }
}

/// The answer to who asks for a token with this object.
///
/// # Errors
/// What is wrong with it.
pub(in crate::subresources) fn answer(
    seal: &hmac::Key,
    namespace: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<Value, String> {
    let mut asked: Value = serde_json::from_slice(body)
        .map_err(|error| format!("the body is no {TOKEN_KIND}: {error}"))?;
    let name = asked["spec"]["pvcName"].as_str().unwrap_or_default().to_owned();
    if !is_name(&name) {
        return Err(format!("spec.pvcName {:?} must be the name of a claim", net::shown(&name)));
    }
    let metadata = asked["metadata"].as_object().cloned().unwrap_or_default();
    if metadata.get("namespace").and_then(Value::as_str).is_some_and(|own| own != namespace) {
        return Err(format!("metadata.namespace must be {namespace:?}, as in the path"));
    }
    asked["kind"] = json!(TOKEN_KIND);
    asked["apiVersion"] = json!(format!("{UPLOADS}/{}", UPLOADS_VERSIONS[0]));
    asked["metadata"] = json!(metadata);
    asked["metadata"]["namespace"] = json!(namespace);
    let token = Token { namespace: namespace.to_owned(), name };
    asked["status"] = json!({ "token": token.write(seal, now) });
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(of: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, of.as_bytes())
    }

    fn token() -> Token {
        Token { namespace: "shop".to_owned(), name: "root".to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_claim_for_minutes() {
        let text = token().write(&seal("a"), at(1000));
        let read = |second| Token::read(&seal("a"), &text, at(second));
        for second in [990, 1000, 1300, 1310] {
            assert_eq!(read(second), Some(token()), "{second}");
        }
        for second in [989, 1311] {
            assert_eq!(read(second), None, "{second}");
        }
        assert_eq!(Token::read(&seal("b"), &text, at(1000)), None, "another's seal");
    }

    #[test]
    fn what_was_changed_or_is_none_is_no_token() {
        let text = token().write(&seal("a"), at(1000));
        let parts: Vec<&str> = text.split('.').collect();
        let other = Token { name: "other".to_owned(), ..token() }.write(&seal("b"), at(1000));
        let said = other.split('.').nth(1).unwrap().to_owned();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for wrong in [
            format!("{}.{said}.{}", parts[0], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(Token::read(&seal("a"), &wrong, at(1000)), None, "{wrong}");
        }
    }

    #[test]
    fn who_asks_is_given_one_for_the_namespace_that_the_api_asked_about() {
        let body = json!({"metadata": {"generateName": "t-"}, "spec": {"pvcName": "root"}});
        let ask = |body: &Value| answer(&seal("a"), "shop", body.to_string().as_bytes(), at(1000));
        let told = ask(&body).unwrap();
        assert_eq!(
            (&told["kind"], &told["metadata"]["namespace"]),
            (&json!("UploadTokenRequest"), &json!("shop"))
        );
        let text = told["status"]["token"].as_str().unwrap();
        assert_eq!(Token::read(&seal("a"), text, at(1000)), Some(token()));
        let other = json!({"metadata": {"namespace": "bank"}, "spec": {"pvcName": "root"}});
        assert!(ask(&other).unwrap_err().contains("must be \"shop\""));
        for bad in [json!({}), json!({"spec": {"pvcName": "../a"}}), json!([])] {
            assert!(ask(&bad).unwrap_err().contains("spec.pvcName"), "{bad}");
        }
        answer(&seal("a"), "shop", b"{", at(1000)).unwrap_err();
    }
}
