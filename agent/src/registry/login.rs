//! What a registry asks of who wants in, and the answer to it: a token (`Bearer`) or the
//! login itself (`Basic`).
//!
//! <https://github.com/distribution/distribution/blob/main/docs/content/spec/auth/token.md>

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

use super::http::{Http, header, small};
use super::{Login, RegistryError};

/// A token with its JSON.
const MAX_TOKEN: u64 = 64 << 10;

/// What to do about it.
pub(super) const LOGIN_WANTED: &str =
    "the registry asks for a login: name a Secret with one in imagePullSecret";

/// How to be let in.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// What an answer of 401 asks for; a token before a login, where it takes both.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let asked = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|one| one.to_str().ok());
    let mut basic = None;
    for one in asked {
        for challenge in http_auth::parse_challenges(one).ok()? {
            let param = |name: &str| {
                let mut params = challenge.params.iter();
                let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let (service, scope) = (param("service"), param("scope"));
                return param("realm").map(|realm| Challenge::Bearer { realm, service, scope });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

/// The header that answers a challenge; none if a login is asked for and there is none.
pub(super) async fn answer(
    http: &Http,
    challenge: &Challenge,
    repository: &str,
    login: Option<&Login>,
) -> Result<Option<HeaderValue>, RegistryError> {
    match challenge {
        Challenge::Basic => login.map(basic).transpose(),
        Challenge::Bearer { realm, service, scope } => {
            let url = token_url(realm, service.as_deref(), scope.as_deref(), repository);
            // A registry may send us anywhere: not to what listens without TLS beside us.
            if !http.is_private(&url) {
                let realm = net::shown(realm);
                let why = format!("{realm:?} is not asked for a token: it has no TLS");
                return Err(RegistryError::Denied(why));
            }
            let mut headers = HeaderMap::new();
            if let Some(login) = login {
                headers.insert(AUTHORIZATION, basic(login)?);
            }
            let answer = http.get(&url, &headers).await?;
            let status = answer.status();
            if !status.is_success() {
                let denied = matches!(status.as_u16(), 400 | 401 | 403);
                return Err(match login {
                    _ if !denied => RegistryError::Failed(format!(
                        "the registry's authority gives no token: {status}"
                    )),
                    None => RegistryError::Denied(format!("{LOGIN_WANTED} ({status})")),
                    Some(_) => RegistryError::Denied(format!(
                        "the registry's authority refuses the login: {status}"
                    )),
                });
            }
            let body = small(answer, MAX_TOKEN, "a token").await?;
            // Not the parser's words: they may quote the token.
            let odd = |_| RegistryError::failed("the registry's authority gives no token");
            let Token { token, access_token } = serde_json::from_slice(&body).map_err(odd)?;
            let token = if token.is_empty() { access_token } else { token };
            header(&format!("Bearer {token}"), true).map(Some)
        }
    }
}

fn basic(login: &Login) -> Result<HeaderValue, RegistryError> {
    let both = BASE64_STANDARD.encode(format!("{}:{}", login.username, login.password));
    header(&format!("Basic {both}"), true)
}

/// Where a token is, for reading one repository and nothing else.
fn token_url(realm: &str, service: Option<&str>, scope: Option<&str>, repository: &str) -> String {
    let own = format!("repository:{repository}:pull");
    let mut url = realm.to_owned();
    let mut sign = if realm.contains('?') { '&' } else { '?' };
    for (name, value) in [("service", service), ("scope", Some(scope.unwrap_or(&own)))] {
        if let Some(value) = value {
            url.push(sign);
            url.push_str(name);
            url.push('=');
            escape(value, &mut url);
            sign = '&';
        }
    }
    url
}

/// As a value in a query.
fn escape(value: &str, into: &mut String) {
    use std::fmt::Write as _;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            into.push(char::from(byte));
        } else {
            write!(into, "%{byte:02X}").expect("a string takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        challenge(&headers)
    }

    #[test]
    fn a_token_is_asked_for_where_it_can_be_and_else_the_login() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("reg \"x\"".to_owned()),
            scope: None,
        };
        let line = r#"Bearer realm="https://auth.example/token",service="reg \"x\"""#;
        assert_eq!(of(&["Basic realm=\"a\"", line]), Some(bearer));
        assert_eq!(of(&["Basic realm=\"Registry Realm\""]), Some(Challenge::Basic));
        assert_eq!(of(&["Digest realm=\"a\""]), None);
        assert_eq!(of(&["Bearer scope=\"a\""]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_token_is_for_one_repository() {
        let url = token_url("https://a.example/t?x=1", Some("r e&g"), None, "team/a");
        assert_eq!(url, "https://a.example/t?x=1&service=r%20e%26g&scope=repository:team/a:pull");
    }
}
