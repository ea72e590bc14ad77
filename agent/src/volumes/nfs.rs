//! Looks at the disk in a directory of an NFS server, and makes it where it may.
//!
//! By a client of our own process (`nfs3_client`): what waits for the server is a task, which a
//! limit ends, and no call of the kernel, which nothing ends. What the server sends is taken for
//! hostile: it may be no longer than what is asked for can be.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nfs3_client::io::{AsyncRead, AsyncWrite};
use nfs3_client::net::Connector;
use nfs3_client::nfs3_types::nfs3::{
    ACCESS3args, CREATE3args, FSSTAT3args, GETATTR3args, LOOKUP3args, Nfs3Option, Nfs3Result,
    SETATTR3args, createhow3, diropargs3, fattr3, filename3, ftype3, nfs_fh3, nfsstat3, sattr3,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::{Nfs3Connection, Nfs3ConnectionBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::raw::{self, DISK_FILE};
use super::remote::{Export, NFS_USER};

/// How long a server may take for all of it.
const LIMIT: Duration = Duration::from_secs(10);
/// More than all answers together can be, in bytes.
const LONGEST: usize = 64 << 10;
/// The mode of a disk that is made.
const MODE: u32 = 0o660;
/// Said of a directory without a disk, where none is to be made.
pub(super) const NO_DISK: &str = "it has no disk.img";
/// The port of the portmapper, by which a host name is looked up.
const PORTMAPPER: u16 = 111;

// Bits of ACCESS (RFC 1813, 3.3.4).
const READ: u32 = 0x01;
const MODIFY: u32 = 0x04;

/// Sees to it that the directory has a disk which its user can use; `bytes`: the size of one that
/// is made where there is none.
///
/// # Errors
/// What is wrong, for people.
pub(super) async fn disk(export: &Export, bytes: Option<u64>) -> Result<(), String> {
    let Export { server, path, .. } = export;
    match timeout(LIMIT, Directory::open_disk(export, bytes)).await {
        Ok(done) => done.map_err(|why| format!("nfs server {server}: {path}: {why}")),
        Err(_) => Err(format!(
            "nfs server {server} did not answer within {} s: is it up, and are its portmapper, \
             mountd and NFS version 3 reached from this node?",
            LIMIT.as_secs()
        )),
    }
}

/// A directory of a server.
struct Directory {
    client: Nfs3Connection<Wire>,
    handle: nfs_fh3,
    group: u32,
}

impl Directory {
    async fn open_disk(export: &Export, bytes: Option<u64>) -> Result<(), String> {
        let mut directory = Self::open(export).await?;
        let (handle, found) = match directory.find().await? {
            Some(found) => found,
            None => directory.make(bytes.ok_or(NO_DISK)?).await?,
        };
        if found.type_ != ftype3::NF3REG {
            return Err(format!("{DISK_FILE} is not a file"));
        }
        if let (0, Some(bytes)) = (found.size, bytes) {
            // Its maker was killed.
            directory.resize(&handle, &found, bytes).await?;
        }
        directory.is_usable(handle, export.read_only).await
    }

    async fn open(export: &Export) -> Result<Self, String> {
        let addresses = tokio::net::lookup_host((export.server.as_str(), PORTMAPPER)).await;
        let mut addresses = addresses.map_err(|error| error.to_string())?;
        let address = addresses.next().ok_or("it has no address")?;
        let user = auth_unix {
            stamp: 0,
            machinename: Opaque::borrowed(b"berth"),
            uid: NFS_USER,
            gid: export.group,
            gids: vec![],
        };
        // From a port like that of QEMU, which may have no low one: what is refused is told here.
        let client = Nfs3ConnectionBuilder::new(Dial, address.ip().to_string(), path_of(export))
            .connect_from_privileged_port(false)
            .credential(opaque_auth::auth_unix(&user))
            .mount()
            .await
            .map_err(|error| error.to_string())?;
        let handle = client.root_nfs_fh3();
        Ok(Self { client, handle, group: export.group })
    }

    fn entry(&self) -> diropargs3<'static> {
        let name = filename3::from(DISK_FILE.as_bytes().to_vec());
        diropargs3 { dir: self.handle.clone(), name }
    }

    /// The disk, if it is there.
    async fn find(&mut self) -> Result<Option<(nfs_fh3, fattr3)>, String> {
        let what = self.entry();
        match self.client.lookup(&LOOKUP3args { what }).await.map_err(text)? {
            Nfs3Result::Ok(found) => {
                let attributes = self.attributes(&found.object).await?;
                Ok(Some((found.object, attributes)))
            }
            Nfs3Result::Err((nfsstat3::NFS3ERR_NOENT, _)) => Ok(None),
            Nfs3Result::Err((status, _)) => Err(refused("look for the disk", status)),
        }
    }

    async fn attributes(&mut self, of: &nfs_fh3) -> Result<fattr3, String> {
        match self.client.getattr(&GETATTR3args { object: of.clone() }).await.map_err(text)? {
            Nfs3Result::Ok(found) => Ok(found.obj_attributes),
            Nfs3Result::Err((status, _)) => Err(refused("look at the disk", status)),
        }
    }

    /// How large a disk of so many bytes becomes.
    async fn size(&mut self, bytes: u64) -> Result<u64, String> {
        let asked = FSSTAT3args { fsroot: self.handle.clone() };
        let room = match self.client.fsstat(&asked).await.map_err(text)? {
            Nfs3Result::Ok(found) => found.abytes,
            Nfs3Result::Err((status, _)) => return Err(refused("measure the room", status)),
        };
        raw::size(bytes, room).map_err(|room| raw::no_room(DISK_FILE, bytes, room))
    }

    /// Makes the disk, whole in one step; what another has made meanwhile stays.
    async fn make(&mut self, bytes: u64) -> Result<(nfs_fh3, fattr3), String> {
        let size = self.size(bytes).await?;
        let attributes = sattr3 {
            mode: Nfs3Option::Some(MODE),
            size: Nfs3Option::Some(size),
            ..sattr3::default()
        };
        let how = createhow3::GUARDED(attributes);
        let where_ = self.entry();
        match self.client.create(&CREATE3args { where_, how }).await.map_err(text)? {
            Nfs3Result::Ok(_) => {
                tracing::info!(bytes = size, "Made a disk that stays on an NFS server");
            }
            Nfs3Result::Err((nfsstat3::NFS3ERR_EXIST, _)) => {}
            Nfs3Result::Err((status @ (nfsstat3::NFS3ERR_ACCES | nfsstat3::NFS3ERR_PERM), _)) => {
                let who = format!("user {NFS_USER} or group {}", self.group);
                let why = refused("make the disk", status);
                return Err(format!("{why}: let {who} write there"));
            }
            Nfs3Result::Err((status, _)) => return Err(refused("make the disk", status)),
        }
        self.find().await?.ok_or_else(|| "the disk that was made is not there".to_owned())
    }

    /// Gives a file of no bytes its size, unless somebody has changed it since it was looked at.
    async fn resize(&mut self, disk: &nfs_fh3, was: &fattr3, bytes: u64) -> Result<(), String> {
        let size = self.size(bytes).await?;
        let asked = SETATTR3args {
            object: disk.clone(),
            new_attributes: sattr3 { size: Nfs3Option::Some(size), ..sattr3::default() },
            guard: Nfs3Option::Some(was.ctime),
        };
        match self.client.setattr(&asked).await.map_err(text)? {
            Nfs3Result::Ok(_) => Ok(()),
            Nfs3Result::Err((status, _)) => Err(refused("give the disk its size", status)),
        }
    }

    async fn is_usable(&mut self, disk: nfs_fh3, read_only: bool) -> Result<(), String> {
        let wanted = if read_only { READ } else { READ | MODIFY };
        let asked = ACCESS3args { object: disk, access: wanted };
        match self.client.access(&asked).await.map_err(text)? {
            Nfs3Result::Ok(may) if may.access & wanted == wanted => Ok(()),
            Nfs3Result::Ok(_) => Err(format!(
                "{DISK_FILE} is not for user {NFS_USER} or group {} to {}: change its owner or mode",
                self.group,
                if read_only { "read" } else { "write" }
            )),
            Nfs3Result::Err((status, _)) => Err(refused("ask for access to the disk", status)),
        }
    }
}

fn path_of(export: &Export) -> &str {
    if export.path.is_empty() { "/" } else { &export.path }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn refused(what: &str, status: nfsstat3) -> String {
    format!("cannot {what}: {status}")
}

/// Connects, and bounds what is heard.
struct Dial;

impl Connector for Dial {
    type Connection = Wire;

    async fn connect(&self, to: SocketAddr) -> io::Result<Wire> {
        Ok(Wire { stream: TcpStream::connect(to).await?, left: LONGEST })
    }

    async fn connect_with_port(&self, _to: SocketAddr, _from: u16) -> io::Result<Wire> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A connection on which so many bytes are heard and no more.
struct Wire {
    stream: TcpStream,
    left: usize,
}

impl AsyncRead for Wire {
    async fn async_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..most]).await?;
        // Without this who waits for more would ask for ever.
        if read == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}

impl AsyncWrite for Wire {
    async fn async_write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.stream.write(buffer).await? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            wrote => Ok(wrote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(server: &str) -> Export {
        let (server, path) = (server.to_owned(), "/a".to_owned());
        Export { server, path, group: NFS_USER, read_only: false }
    }

    #[tokio::test]
    async fn what_a_server_says_is_bounded_and_its_end_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flood = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(&vec![0; 1 << 20]).await;
        });
        let mut wire = Dial.connect(address).await.unwrap();
        let mut buffer = vec![0; 1 << 20];
        let told = wire.async_read_exact(&mut buffer).await.unwrap_err();
        assert_eq!((told.kind(), wire.left), (io::ErrorKind::UnexpectedEof, 0));
        flood.abort();
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_told() {
        // Nobody has a portmapper there.
        let told = disk(&export("127.77.0.1"), Some(1 << 20)).await.unwrap_err();
        assert!(told.starts_with("nfs server 127.77.0.1: /a: "), "{told}");
    }
}
