// SPDX-License-Identifier: Apache-2.0
//! Rows of small packets: request and response, connections, datagrams. Client and server are threads of
//! this process on one processor each, with sockets that were opened inside the namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{Bed, Ends};
use crate::error::{Doing, Result};
use crate::judge::{Bound, Figure, Rounds, ratios};
use crate::pin::{Side, pin};
use crate::statistics::{percentile, sorted};

/// Length of one measurement.
const ROUND: Duration = Duration::from_millis(300);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(2);

/// Median time of a 1-byte request and its response.
pub(crate) fn request(bed: &Bed, rounds: Rounds) -> Result<Vec<Figure>> {
    let sides = [("VXLAN bridge", Bound::AtMost(1.0))];
    let what = "1-byte request/response, pinned, p50";
    ratios(what, &sides, "µs", rounds, |_| {
        Ok(vec![round_trip(&bed.ours)?, round_trip(&bed.bridge)?])
    })
}

/// Whole connections per second.
pub(crate) fn connect(bed: &Bed, rounds: Rounds) -> Result<Vec<Figure>> {
    let sides = [("VXLAN bridge", Bound::AtLeast(0.95))];
    let what = "connect + request + close per second";
    ratios(what, &sides, "per s", rounds, |_| {
        Ok(vec![connections(&bed.ours)?, connections(&bed.bridge)?])
    })
}

/// Datagrams of 64 bytes that arrive per second, one flow.
pub(crate) fn datagrams(bed: &Bed, rounds: Rounds) -> Result<Vec<Figure>> {
    let sides = [("VXLAN bridge", Bound::AtLeast(1.0))];
    let what = "UDP 64-byte packets per second, one flow";
    ratios(what, &sides, "per s", rounds, |_| {
        Ok(vec![packets(&bed.ours)?, packets(&bed.bridge)?])
    })
}

fn listen(ends: &Ends) -> Result<(TcpListener, SocketAddr)> {
    let any = SocketAddr::new(IpAddr::from([0; 4]), 0);
    let listener = ends.server.within(|| TcpListener::bind(any))?;
    let listener = listener.doing("listen in a pod")?;
    let port = listener.local_addr().doing("ask for a port")?.port();
    Ok((listener, SocketAddr::new(ends.server_v4, port)))
}

fn round_trip(ends: &Ends) -> Result<f64> {
    let (listener, target) = listen(ends)?;
    let dial = || TcpStream::connect_timeout(&target, PATIENCE);
    let mut client = ends.client.within(dial)?.doing("connect between pods")?;
    let (mut server, _) = listener.accept().doing("accept")?;
    for socket in [&client, &server] {
        socket.set_nodelay(true).doing("set TCP_NODELAY")?;
        let limited = socket.set_read_timeout(Some(PATIENCE));
        limited.doing("set a limit")?;
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(Side::Server);
            let mut byte = [0];
            // The client's end ends this.
            while server.read_exact(&mut byte).is_ok() && server.write_all(&byte).is_ok() {}
        });
        let timed = scope.spawn(move || {
            pin(Side::Client);
            let (mut times, mut byte) = (Vec::with_capacity(1 << 15), [0]);
            let started = Instant::now();
            while started.elapsed() < ROUND {
                let sent = Instant::now();
                client.write_all(&byte)?;
                client.read_exact(&mut byte)?;
                times.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            Ok::<_, std::io::Error>(times)
        });
        let times = timed.join().expect("no panic").doing("ask a pod")?;
        Ok(percentile(&sorted(&times), 0.5))
    })
}

/// The server closes first: what waits for late segments is on its side, and no port of the client is
/// held back.
fn connections(ends: &Ends) -> Result<f64> {
    let (listener, target) = listen(ends)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(Side::Server);
            let mut byte = [0];
            while let Ok((mut stream, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let _client_gone = stream
                    .read_exact(&mut byte)
                    .and_then(|()| stream.write_all(&byte));
            }
        });
        let counted = ends.client.within(|| {
            pin(Side::Client);
            let started = Instant::now();
            let mut count = 0u32;
            while started.elapsed() < ROUND {
                let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(&[1])?;
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer)?;
                count += 1;
            }
            let rate = f64::from(count) / started.elapsed().as_secs_f64();
            Ok::<_, std::io::Error>(rate)
        });
        stop.store(true, Ordering::Relaxed);
        let wake = || TcpStream::connect_timeout(&target, PATIENCE).map(drop);
        ends.client.within(wake)?.doing("end the server")?;
        counted?.doing("connect between pods")
    })
}

fn packets(ends: &Ends) -> Result<f64> {
    let any = SocketAddr::new(IpAddr::from([0; 4]), 0);
    let open = || UdpSocket::bind(any);
    let server = ends.server.within(open)?.doing("open a socket")?;
    let client = ends.client.within(open)?.doing("open a socket")?;
    let port = server.local_addr().doing("ask for a port")?.port();
    let connected = client.connect((ends.server_v4, port));
    connected.doing("connect a socket")?;
    let limited = server.set_read_timeout(Some(Duration::from_millis(50)));
    limited.doing("set a limit")?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let arrived = scope.spawn(|| {
            pin(Side::Server);
            let (mut count, mut buffer) = (0u64, [0; 64]);
            while !stop.load(Ordering::Relaxed) {
                count += u64::from(server.recv(&mut buffer).is_ok());
            }
            count
        });
        scope.spawn(|| {
            pin(Side::Client);
            let payload = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                // A full queue loses datagrams; those that arrive are counted.
                let _lost = client.send(&payload);
            }
        });
        let started = Instant::now();
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
        let seconds = started.elapsed().as_secs_f64();
        Ok(arrived.join().expect("no panic") as f64 / seconds)
    })
}
