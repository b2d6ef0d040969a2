//! A server behind TLS, as hosted ones are. A proxy ends it, with a certificate that was made for the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::super::{Server, numbers};
use super::server::Milvus;
use crate::sandbox::{Run, Sandbox};

/// Takes a certificate, its key, and the port behind it; says its own port.
const PROXY: &str = r#"
import asyncio, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.set_alpn_protocols(["h2"])
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
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[3]))
    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

/// Ended when dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_behind_tls_serves_who_knows_its_authority() {
    let server = Milvus::lite();
    let sandbox = Sandbox::new();
    sandbox.photos("photos", 3);
    sandbox.index(&["photos"]);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (sandbox.path("certificate.pem"), sandbox.path("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", PROXY]).args([&certificate, &key]);
    python.arg(server.base.rsplit(':').next().unwrap());
    let mut proxy = Proxy(python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut port = String::new();
    BufReader::new(proxy.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let name = server.address("tls");
    let name = name.rsplit('/').next().unwrap();
    let address = format!("milvus+tls://localhost:{}/{name}", port.trim());

    let push = ["push", &address, "--json"];
    let mut knowing = sandbox.command(&push);
    let report = Run::of(knowing.env("SSL_CERT_FILE", &certificate)).exits(0).json();
    assert_eq!(numbers(&report), [3, 0, 0, 3]);
    let mut asking = sandbox.command(&["find", "id:2", "--remote", &address, "--format", "json"]);
    let hits = Run::of(asking.env("SSL_CERT_FILE", &certificate)).exits(0).json();
    assert_eq!((hits.as_array().unwrap().len(), &hits[0]["id"]), (3, &2.into()));
    // Nobody else's word is taken for it; and who speaks plainly is not understood.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&certificate, other.cert.pem()).unwrap();
    let mut doubting = sandbox.command(&push);
    let run = Run::of(doubting.env("SSL_CERT_FILE", &certificate)).exits(1);
    drop(run.says("certificate").says(&format!("localhost:{}", port.trim())));
    let plainly = address.replacen("+tls", "", 1);
    drop(sandbox.run(&["push", &plainly]).exits(1).says("localhost"));
}
