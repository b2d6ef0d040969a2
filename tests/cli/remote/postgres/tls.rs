//! A server behind TLS, as hosted ones are. PostgreSQL asks for it in its own words before it begins, so that a proxy
//! answers these, and ends it with a certificate that was made for the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::super::{Server, numbers};
use super::server::{PASSWORD, Postgres};
use crate::sandbox::{Run, Sandbox};

/// Takes a certificate, its key, and the socket behind it; says its own port. Without a certificate it speaks no TLS.
const PROXY: &str = r#"
import asyncio, ssl, sys
context = None
if sys.argv[1]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def serve(reader, writer):
    begin = await reader.readexactly(8)
    inner_reader, inner_writer = await asyncio.open_unix_connection(sys.argv[3])
    if begin == b"\0\0\0\x08\x04\xd2\x16\x2f":
        writer.write(b"S" if context else b"N")
        await writer.drain()
        if context:
            await writer.start_tls(context)
    else:
        inner_writer.write(begin)
    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

/// Ended when dropped.
struct Proxy(Child, u16);

impl Proxy {
    fn start(server: &Postgres, certificate: &str, key: &str) -> Self {
        let mut python = Command::new("python3");
        python.args(["-c", PROXY, certificate, key]).arg(server.path("socket/.s.PGSQL.5432"));
        let mut child = python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self(child, port.trim().parse().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn postgres_behind_tls_serves_who_knows_its_authority() {
    let server = Postgres::start();
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (sandbox.path("certificate.pem"), sandbox.path("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let proxy = Proxy::start(&server, certificate, key);
    let plain = Proxy::start(&server, "", "");
    let address = |port: u16, more: &str| {
        format!("postgres://likeness@localhost:{port}/postgres?table=behind_tls&{more}")
    };
    let named = address(proxy.1, &format!("sslmode=verify-full&sslrootcert={certificate}"));
    let report = server.run(&sandbox, &["push", &named, "--json"]).exits(0).json();
    assert_eq!(numbers(&report), [3, 0, 0, 3]);
    assert_eq!(
        report["address"].as_str().unwrap(),
        named.replace("table=behind_tls&", "") + "&table=behind_tls"
    );
    let required = address(proxy.1, "sslmode=require");
    let find = ["find", "id:2", "--remote", &required, "--format", "json"];
    let mut asking = server.command(&sandbox, &find);
    let hits = Run::of(asking.env("SSL_CERT_FILE", certificate)).exits(0).json();
    assert_eq!((hits.as_array().unwrap().len(), &hits[0]["id"]), (3, &2.into()));

    // Nobody else's word is taken for it, nor a certificate with another name.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let elsewhere = sandbox.path("other.pem");
    fs::write(&elsewhere, other.cert.pem()).unwrap();
    let mut doubting = server.command(&sandbox, &find);
    let run = Run::of(doubting.env("SSL_CERT_FILE", &elsewhere)).exits(1);
    drop(run.says("certificate").says("sslrootcert=FILE"));
    let misnamed = named.replace("localhost", "127.0.0.1");
    drop(server.run(&sandbox, &["push", &misnamed]).exits(1).says("not valid for name"));
    let nothing = named.replace("certificate.pem", "nothing.pem");
    let run = server.run(&sandbox, &["push", &nothing]).exits(1);
    drop(run.says("cannot read the certificates of").says("nothing.pem"));

    // Where TLS is wanted, nothing is said without; where it is not, it is said to whoever is near.
    let required = address(plain.1, "sslmode=require");
    let mut asking = server.command(&sandbox, &["push", &required]);
    let run = Run::of(asking.env("SSL_CERT_FILE", certificate)).exits(1);
    drop(run.says("it speaks no TLS").says("sslmode=disable"));
    let report = server.run(&sandbox, &["push", &address(plain.1, ""), "--json"]).exits(0).json();
    assert_eq!(numbers(&report), [0, 0, 3, 3]);
    assert!(!report.to_string().contains(PASSWORD));
}
