//! What a client sends to a claim of this node, passed on by a controller.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::answer::{Answer, No, reply};
use crate::imports::{Arrival, Sender, Uploads, pipe};

/// From one piece to the next.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the rest is read and thrown away, so that who sends it comes to read why.
const LINGER: Duration = Duration::from_secs(10);

/// The claim that is meant, by uid, and whether it is answered early.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Asked {
    uid: String,
    early: bool,
}

/// What a path asks for, if it is this.
pub(super) fn parse(path: &str) -> Option<Asked> {
    let early = |verb: &str| match verb {
        crds::commands::UPLOAD => Some(false),
        crds::commands::UPLOAD_EARLY => Some(true),
        _ => None,
    };
    match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["v1", "namespaces", _, "claims", _, uid, verb] => {
            Some(Asked { uid: uid.to_owned(), early: early(verb)? })
        }
        _ => None,
    }
}

/// Takes it, or says whether it would be taken.
pub(super) async fn answer(
    uploads: &Uploads,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<Answer, No> {
    let not_waiting = || {
        let said = "the claim does not wait for a disk on this node".to_owned();
        No(StatusCode::SERVICE_UNAVAILABLE, said)
    };
    match *request.method() {
        Method::GET if uploads.is_expected(&asked.uid) => {
            return Ok(reply(StatusCode::OK, String::new()));
        }
        Method::GET => return Err(not_waiting()),
        Method::PUT => {}
        _ => return Err(No(StatusCode::METHOD_NOT_ALLOWED, "ask with PUT".to_owned())),
    }
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse().ok());
    let (sender, bytes) = pipe();
    let (verdict, told) = oneshot::channel();
    let arrival = Arrival { bytes, length, early: asked.early, verdict };
    if !uploads.bring(&asked.uid, arrival) {
        return Err(not_waiting());
    }
    let mut body = request.into_body();
    let came = feed(&mut body, sender).await;
    let told = told.await.unwrap_or_else(|_| Err("the claim is filled no longer".to_owned()));
    if matches!(came, Came::Unwanted) {
        let _ = timeout(LINGER, drain(&mut body)).await;
    }
    match told {
        Ok(()) => Ok(reply(StatusCode::OK, String::new())),
        Err(why) => Err(No(StatusCode::BAD_REQUEST, why)),
    }
}

/// How far it was read.
enum Came {
    /// To its end, or to where it broke off.
    All,
    /// Whoever read it had enough.
    Unwanted,
}

async fn feed(body: &mut Incoming, into: Sender) -> Came {
    loop {
        let piece = match timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => {
                let _ = into.send(None).await;
                return Came::All;
            }
            // Without its end it counts as cut off.
            Ok(Some(Err(_))) | Err(_) => return Came::All,
        };
        if let Ok(data) = piece.into_data()
            && !data.is_empty()
            && into.send(Some(data)).await.is_err()
        {
            return Came::Unwanted;
        }
    }
}

async fn drain(body: &mut Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

#[cfg(test)]
mod tests {
    use crds::commands::{UPLOAD, UPLOAD_EARLY, claim_path, path};

    use super::*;

    #[test]
    fn a_claim_is_asked_for_as_controllers_write_it() {
        let of = |verb: &str| parse(&claim_path("shop", "root", "u1", verb));
        let asked = |early| Some(Asked { uid: "u1".to_owned(), early });
        assert_eq!((of(UPLOAD), of(UPLOAD_EARLY)), (asked(false), asked(true)));
        assert_eq!(of("download"), None);
        assert_eq!(parse(&path("shop", "till", "u1", UPLOAD)), None);
    }
}
