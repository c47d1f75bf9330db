//! A container of Azure's Blob service, reached over REST by a URI that holds a shared access signature.
//!
//! Also Azurite's. Only what import and export need: properties, ranges, blocks, delete. May not enter: other
//! kinds of blobs, account keys.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, ETAG, IF_MATCH, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};

use super::{Failure, PIECE, again};

/// A container and what opens it.
pub struct AzureContainer {
    uri: Url,
    client: Client,
}

/// A blob as it was when it was found.
pub struct Found {
    url: Url,
    pub size: u64,
    etag: Option<String>,
}

/// A block blob on its way up: a piece waits here, those before it are there already, in no blob yet.
pub struct AzureWriter {
    url: Url,
    client: Client,
    waiting: Vec<u8>,
    /// Names of the blocks that are there.
    blocks: Vec<String>,
}

/// The client of one job. It trusts the system's authorities where one of the URIs needs TLS, and this
/// simulator's own.
pub fn client(roots_pem: &str, with_tls: bool) -> Result<Client, String> {
    let tls = match with_tls {
        true => azimuth_certs::client_config_with_system_roots(roots_pem),
        false => azimuth_certs::client_config(Some(roots_pem)),
    };
    Client::builder()
        .tls_backend_preconfigured(tls.map_err(|error| error.to_string())?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60))
        .build()
        .map_err(|error| error.to_string())
}

impl AzureContainer {
    pub fn new(uri: &str, client: Client) -> Result<Self, String> {
        let parsed = Url::parse(uri).map_err(|error| format!("its URI is none: {error}"))?;
        if parsed.cannot_be_a_base() || !parsed.has_host() {
            return Err("its URI names no host".into());
        }
        let mut segments = parsed.path_segments().into_iter().flatten();
        if segments.all(str::is_empty) {
            return Err("its URI names no container".into());
        }
        Ok(Self {
            uri: parsed,
            client,
        })
    }

    pub async fn find(&self, blob: &str) -> Result<Found, Failure> {
        let url = self.url(blob);
        let answer = send(self.client.request(Method::HEAD, url.clone())).await?;
        let answer = good(answer).await?;
        let header = |name| answer.headers().get(name)?.to_str().ok();
        let size = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Ok(Found {
            url,
            size: size.ok_or_else(|| Failure::Other("it tells no size of the blob".into()))?,
            etag: header(ETAG).map(ToOwned::to_owned),
        })
    }

    /// On the condition that it is the same blob still.
    pub async fn read(&self, blob: &Found, offset: u64) -> Result<Bytes, Failure> {
        if offset >= blob.size {
            return Ok(Bytes::new());
        }
        let last = (offset + PIECE as u64).min(blob.size) - 1;
        let mut request = self.client.get(blob.url.clone());
        request = request.header(RANGE, format!("bytes={offset}-{last}"));
        if let Some(etag) = &blob.etag {
            request = request.header(IF_MATCH, etag);
        }
        let answer = good(send(request).await?).await?;
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            let status = answer.status();
            return Err(Failure::Other(format!("a range was answered {status}")));
        }
        let mut answer = answer;
        let expected = (last - offset + 1) as usize;
        let mut bytes = Vec::with_capacity(expected);
        while let Some(chunk) = answer.chunk().await.map_err(passing)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > expected {
                return Err(Failure::Other("a range had more than was asked for".into()));
            }
        }
        match bytes.len() == expected {
            true => Ok(bytes.into()),
            false => Err(Failure::Passing("a range ended too early".into())),
        }
    }

    pub fn write(&self, blob: &str) -> AzureWriter {
        AzureWriter {
            url: self.url(blob),
            client: self.client.clone(),
            waiting: Vec::new(),
            blocks: Vec::new(),
        }
    }

    pub async fn delete(&self, blob: &str) -> Result<(), Failure> {
        let request = self.client.delete(self.url(blob));
        good(send(request).await?).await.map(drop)
    }

    /// The container's own query, with the signature in it, stays as it came.
    fn url(&self, blob: &str) -> Url {
        let mut url = self.uri.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(blob.split('/'));
        }
        url
    }
}

impl AzureWriter {
    pub async fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= PIECE {
            let rest = self.waiting.split_off(PIECE);
            let piece = std::mem::replace(&mut self.waiting, rest);
            self.put_block(piece.into()).await?;
        }
        Ok(())
    }

    /// One request where all of it fits into one; else the list of its blocks, which makes it a blob.
    pub async fn finish(mut self) -> Result<(), Failure> {
        let piece = Bytes::from(std::mem::take(&mut self.waiting));
        if self.blocks.is_empty() {
            let request = || {
                let request = self.put(self.url.clone(), piece.clone());
                request.header("x-ms-blob-type", "BlockBlob")
            };
            return again(async || good(send(request()).await?).await.map(drop)).await;
        }
        if !piece.is_empty() {
            self.put_block(piece).await?;
        }
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for block in &self.blocks {
            let _ = write!(list, "<Latest>{block}</Latest>");
        }
        list.push_str("</BlockList>");
        let list = Bytes::from(list);
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("comp", "blocklist");
        let request = || self.put(url.clone(), list.clone());
        again(async || good(send(request()).await?).await.map(drop)).await
    }

    async fn put_block(&mut self, piece: Bytes) -> Result<(), Failure> {
        // All names of a blob's blocks have one length.
        let name = STANDARD.encode(format!("{:08}", self.blocks.len()));
        let mut url = self.url.clone();
        let pairs = &mut url.query_pairs_mut();
        pairs
            .append_pair("comp", "block")
            .append_pair("blockid", &name);
        let url = pairs.finish().clone();
        let request = || self.put(url.clone(), piece.clone());
        again(async || good(send(request()).await?).await.map(drop)).await?;
        self.blocks.push(name);
        Ok(())
    }

    fn put(&self, url: Url, body: Bytes) -> RequestBuilder {
        let length = body.len();
        let request = self.client.put(url).body(body);
        request.header(CONTENT_LENGTH, length)
    }
}

async fn send(request: RequestBuilder) -> Result<Response, Failure> {
    let request = request.header("x-ms-version", VERSION);
    request.send().await.map_err(passing)
}

async fn good(answer: Response) -> Result<Response, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let code = answer.headers().get("x-ms-error-code");
    let code = code.and_then(|code| code.to_str().ok()).unwrap_or_default();
    let sentence = format!("it answered {} {code}", status.as_u16());
    let sentence = sentence.trim_end().to_owned();
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Unauthorized,
        StatusCode::NOT_FOUND => Failure::Missing,
        StatusCode::PRECONDITION_FAILED => Failure::Changed,
        StatusCode::TOO_MANY_REQUESTS => Failure::Passing(sentence),
        status if status.is_server_error() => Failure::Passing(sentence),
        _ => Failure::Other(sentence),
    })
}

/// The error itself would show the URL.
fn passing(error: reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Passing("it did not answer in time".into());
    }
    let error = error.without_url();
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Failure::Passing(cause.to_string())
}

/// Known to the service since 2021 and to Azurite since version 3.15.
const VERSION: &str = "2021-08-06";
