//! A WebSocket on one side, plain bytes on the other: upstream's protocol `plain.kubevirt.io`,
//! in which the content of the frames is what goes over, and their borders mean nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tracing::debug;

use super::refusal::Refusal;

/// The sub-protocol that is spoken.
const PLAIN: &str = "plain.kubevirt.io";
/// What is added to a key before its digest is the answer (RFC 6455, section 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How often the client is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// One that says nothing for so long is taken for gone: nobody else could have the console.
const SILENCE: Duration = Duration::from_secs(70);
/// How much is read at once, in bytes.
const PIECE: usize = 16 << 10;
/// The longest message that is taken, in bytes.
const LONGEST: usize = 4 << 20;

/// The answer that agrees to a WebSocket.
///
/// # Errors
/// When none is asked for.
pub(super) fn agreed<B: Default>(headers: &HeaderMap) -> Result<Response<B>, Refusal> {
    let says = |name: http::HeaderName, word: &str| {
        let said = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        said.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let Some(key) = key.filter(|_| says(UPGRADE, "websocket") && says(CONNECTION, "upgrade"))
    else {
        return Err(Refusal::bad_request("a WebSocket is to be asked for here"));
    };
    if !says(SEC_WEBSOCKET_VERSION, "13") {
        return Err(Refusal::bad_request("only version 13 of WebSocket is spoken"));
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let told = response.headers_mut();
    told.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    told.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&accept(key)).map_err(Refusal::internal)?;
    told.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if says(SEC_WEBSOCKET_PROTOCOL, PLAIN) {
        told.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PLAIN));
    }
    Ok(response)
}

fn accept(key: &[u8]) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(MAGIC.as_bytes());
    STANDARD.encode(digest.finish())
}

/// Passes bytes on between a client that is about to be upgraded and a node, until either ends.
pub(super) async fn join(client: OnUpgrade, node: TokioIo<Upgraded>) {
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return debug!(%error, "A client was not upgraded"),
    };
    pump(client, node).await;
}

async fn pump(
    client: impl AsyncRead + AsyncWrite + Unpin,
    node: impl AsyncRead + AsyncWrite + Unpin,
) {
    let config =
        WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
    let client = WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
    let (mut to_client, from_client) = client.split();
    let (from_node, to_node) = tokio::io::split(node);
    tokio::select! {
        () = up(from_client, to_node) => {}
        () = down(from_node, &mut to_client) => {}
    }
    // With the status that it was meant to end: clients tell it from a break. It may be gone.
    let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let _ = timeout(PING, to_client.send(Message::Close(Some(end)))).await;
}

/// What the client says, to the node.
async fn up<E>(
    mut client: impl Stream<Item = Result<Message, E>> + Unpin,
    mut node: impl AsyncWrite + Unpin,
) {
    while let Ok(Some(Ok(message))) = timeout(SILENCE, client.next()).await {
        let written = match message {
            Message::Binary(bytes) => node.write_all(&bytes).await,
            Message::Text(text) => node.write_all(text.as_bytes()).await,
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        };
        if written.is_err() || node.flush().await.is_err() {
            break;
        }
    }
    let _ = node.shutdown().await;
}

/// What the node says, to the client; and whether that is still there.
async fn down(mut node: impl AsyncRead + Unpin, client: &mut (impl Sink<Message> + Unpin)) {
    let mut piece = vec![0; PIECE];
    let mut ask = interval(PING);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            read = node.read(&mut piece) => match read {
                Ok(length @ 1..) => Message::binary(piece[..length].to_vec()),
                Ok(0) | Err(_) => return,
            },
            _ = ask.tick() => Message::Ping(Vec::new().into()),
        };
        if client.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    const ASKED: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_websocket_is_agreed_to_as_the_standard_says() {
        let response = agreed::<String>(&headers(&ASKED)).unwrap();
        // RFC 6455, section 1.3.
        let accepted = &response.headers()[SEC_WEBSOCKET_ACCEPT];
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        let protocols = ("sec-websocket-protocol", "v4.channel.k8s.io, plain.kubevirt.io");
        let with = headers(&[&ASKED[..], &[protocols]].concat());
        let response = agreed::<String>(&with).unwrap();
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], PLAIN);
    }

    #[test]
    fn what_is_no_websocket_is_told_so() {
        for missing in 0..ASKED.len() {
            let mut asked = ASKED.to_vec();
            asked.remove(missing);
            assert_eq!(agreed::<String>(&headers(&asked)).unwrap_err().code, 400);
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_of_one_side_is_the_others() {
        let (ours, theirs) = tokio::io::duplex(64);
        let (node, mut guest) = tokio::io::duplex(64);
        let pumping = tokio::spawn(pump(theirs, node));
        let mut client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        client.send(Message::binary(b"ls\n".to_vec())).await.unwrap();
        client.send(Message::text("pwd\n")).await.unwrap();
        let mut heard = [0; 7];
        guest.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ls\npwd\n");

        // More than fits on the way at once.
        let long = vec![b'x'; 3000];
        let talk = async {
            guest.write_all(&long).await.unwrap();
            drop(guest);
        };
        let listen = async {
            let mut heard = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                match message {
                    Message::Binary(bytes) => heard.extend_from_slice(&bytes),
                    Message::Close(said) => {
                        assert_eq!(said.map(|said| said.code), Some(CloseCode::Normal));
                        break;
                    }
                    _ => {}
                }
            }
            heard
        };
        let ((), heard) = tokio::join!(talk, listen);
        assert_eq!(heard, long);
        pumping.await.unwrap();
    }
}
