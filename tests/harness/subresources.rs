//! What virtctl asks for, and the streams that it opens; without virtctl.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use http::{Method, Request};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How long a stream may be silent before what is waited for is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// The path of a verb in namespace `default`: `virtualmachines/web/start`.
fn path(rest: &str) -> String {
    format!("/apis/subresources.kubevirt.io/v1/namespaces/default/{rest}")
}

/// Asks for a verb, such as `virtualmachines/web/start`, with these options.
///
/// # Errors
/// Code and message of the refusal; or there was no answer.
pub async fn put(client: &Client, rest: &str, options: &Value) -> anyhow::Result<()> {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(path(rest))
        .header("content-type", "application/json")
        .body(options.to_string().into_bytes())?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => bail!("{}: {}", status.code, status.message),
        Err(error) => Err(error.into()),
    }
}

/// What is told of it, such as `virtualmachineinstances/web/guestosinfo`.
///
/// # Errors
/// Code and message of the refusal; or there was no answer.
pub async fn get(client: &Client, rest: &str) -> anyhow::Result<Value> {
    let request = Request::builder().uri(path(rest)).body(Vec::new())?;
    match client.request(request).await {
        Ok(told) => Ok(told),
        Err(kube::Error::Api(status)) => bail!("{}: {}", status.code, status.message),
        Err(error) => Err(error.into()),
    }
}

/// The same as [`put`]; what it is refused with, after upstream's preamble.
///
/// # Errors
/// When it is not refused.
pub async fn refused(client: &Client, rest: &str, options: &Value) -> anyhow::Result<String> {
    match put(client, rest, options).await {
        Ok(()) => bail!("{rest} was not refused"),
        Err(error) => {
            let said = error.to_string();
            let (code, said) = said.split_once(": ").context("no code and message")?;
            Ok(format!("{code} {}", said.rsplit("\": ").next().unwrap_or_default()))
        }
    }
}

/// An open stream, as virtctl would have it.
#[derive(Debug)]
pub struct Stream {
    socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    heard: Vec<u8>,
}

impl Stream {
    /// Opens a stream, such as `virtualmachineinstances/web/console`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open(client: &Client, rest: &str) -> anyhow::Result<Self> {
        let request = Request::builder()
            .uri(path(rest))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "plain.kubevirt.io")
            .body(Body::empty())?;
        let mut response = client.send(request).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = response.into_body().collect_bytes().await?;
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        let protocol = response.headers().get("sec-websocket-protocol");
        ensure!(
            protocol.is_some_and(|protocol| protocol == "plain.kubevirt.io"),
            "the protocol is {protocol:?}"
        );
        let upgraded = TokioIo::new(hyper::upgrade::on(&mut response).await?);
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
        Ok(Self { socket, heard: Vec::new() })
    }

    /// Types something.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::binary(text.as_bytes().to_vec())).await?)
    }

    /// Waits until `text` is heard, and forgets what came up to it.
    ///
    /// # Errors
    /// When the stream ends before, or is silent; with what was heard instead.
    pub async fn hear(&mut self, text: &str) -> anyhow::Result<()> {
        loop {
            let found = self.heard.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.heard.drain(..at + text.len());
                return Ok(());
            }
            let next = tokio::time::timeout(SILENCE, self.socket.next()).await;
            let heard = || String::from_utf8_lossy(&self.heard).into_owned();
            let next = next.with_context(|| format!("silence after {:?}", heard()))?;
            match next.with_context(|| format!("it ended after {:?}", heard()))?? {
                Message::Binary(bytes) => self.heard.extend_from_slice(&bytes),
                Message::Close(_) => bail!("it was closed after {:?}", heard()),
                _ => {}
            }
        }
    }

    /// Waits until the other side has ended it.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        let ended = async {
            while let Some(Ok(message)) = self.socket.next().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        };
        tokio::time::timeout(SILENCE, ended).await.context("the stream goes on")
    }

    /// Ends it as virtctl does.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.socket.close(None).await?)
    }
}
