//! Whether a request is signed as stores of S3 want it (AWS Signature Version 4), found out by
//! the description and not by the code that signs.

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

/// Who may ask.
pub(super) const ID: &str = "AKIDTEST";
/// By what it is known.
pub(super) const SECRET: &str = "s3cret/with+signs";

/// Checks the head of a request, lines and all.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(head: &str) -> anyhow::Result<()> {
    let mut lines = head.lines();
    let first = lines.next().context("nothing is asked")?;
    let [method, path, _] = first.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{first:?} is no request");
    };
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let header = |name: &str| {
        let found = headers.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| *value).with_context(|| format!("{name} is missing"))
    };
    let said = header("authorization")?;
    let said = said.strip_prefix("AWS4-HMAC-SHA256 ").context("another scheme")?;
    let part = |name: &str| {
        let all = said.split(',').filter_map(|one| one.trim().split_once('='));
        let found = all.into_iter().find(|(one, _)| *one == name).map(|(_, value)| value);
        found.with_context(|| format!("{name} is missing in {said}"))
    };
    let (id, scope) = part("Credential")?.split_once('/').context("no scope")?;
    ensure!(id == ID, "{id} is unknown");
    let signed = part("SignedHeaders")?;
    ensure!(signed.split(';').any(|one| one == "host"), "the host is not signed");
    let mut canonical = format!("{method}\n{path}\n\n");
    for name in signed.split(';') {
        canonical.push_str(&format!("{name}:{}\n", header(name)?));
    }
    let time = header("x-amz-date")?;
    canonical.push_str(&format!("\n{signed}\n{}", header("x-amz-content-sha256")?));
    let digest = hex(&Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
    let [date, region, "s3", "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{scope:?} is no scope");
    };
    ensure!(time.starts_with(date), "{time} is not of {date}");
    let key = hmac(format!("AWS4{SECRET}").as_bytes(), date);
    let key = hmac(&hmac(&hmac(&key, region), "s3"), "aws4_request");
    let expected = hex(&hmac(&key, &text));
    ensure!(part("Signature")? == expected, "the signature is another's");
    Ok(())
}

/// RFC 2104, for keys that are no longer than a block.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(one, key)| *one ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
