// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! A node in memory: the tables as hash maps, a packet as a vector, and two clusters' worth of rows.
#![allow(dead_code, reason = "each test binary uses a part")]

mod entry;
pub(crate) mod frames;
mod names;
pub(crate) mod services;
mod world;

use fastpath::{Packet, Step, Sum, Work};
pub(crate) use names::*;
pub(crate) use world::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A frame with what the kernel knows about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Bytes that are not linear, at the end.
    pub(crate) paged: usize,
    pub(crate) gso: u32,
    pub(crate) tagged: bool,
    pub(crate) ifindex: u32,
    pub(crate) ingress: u32,
    /// Somebody else is to finish the transport checksum, which is the sum of the pseudo header until then.
    pub(crate) partial: bool,
    /// The sum of all bytes of the packet that its device supplied.
    pub(crate) whole: Option<u16>,
    /// A socket of the node sent it.
    pub(crate) socket: bool,
    /// The endpoint that noted itself.
    pub(crate) sender: u32,
}

/// A sum, not inverted, of which `from` became `to`.
fn moved(sum: u16, from: &[u8], to: &[u8]) -> u16 {
    let words = |bytes: &[u8]| u32::from(!frames::checksum(0, bytes));
    let mut total = u32::from(sum) + words(to) + u32::from(!(words(from) as u16));
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

impl Frame {
    /// The sum of all bytes of the packet.
    pub(crate) fn sum_of_all(&self) -> u16 {
        !frames::checksum(0, &self.bytes[14..])
    }
}

impl Packet for Frame {
    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }
    fn linear(&self) -> u32 {
        (self.bytes.len() - self.paged) as u32
    }
    fn read<T: FromBytes + Immutable + Copy>(&self, offset: usize) -> Option<T> {
        let linear = &self.bytes[..self.linear() as usize];
        T::read_from_bytes(linear.get(offset..offset + size_of::<T>())?).ok()
    }
    fn load<T: FromBytes + IntoBytes + Immutable + Copy>(&self, offset: usize) -> Option<T> {
        T::read_from_bytes(self.bytes.get(offset..offset + size_of::<T>())?).ok()
    }
    fn write<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> bool {
        match self.bytes.get_mut(offset..offset + size_of::<T>()) {
            Some(place) => {
                place.copy_from_slice(value.as_bytes());
                true
            }
            None => false,
        }
    }
    fn pull(&mut self, len: u32) -> bool {
        let want = (len as usize).min(self.bytes.len());
        self.paged = self.paged.min(self.bytes.len() - want);
        true
    }
    fn copy<const N: usize>(&self, offset: usize, out: &mut [u8; N]) -> bool {
        match self.bytes.get(offset..offset + N) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
    fn replace<const N: usize>(&mut self, frame: &[u8; N]) -> bool {
        self.bytes = frame.to_vec();
        true
    }
    fn put(&mut self, offset: usize, value: [u8; 2]) -> bool {
        self.write(offset, value)
    }
    fn resum<const N: usize>(
        &mut self,
        offset: usize,
        from: &[u8; N],
        to: &[u8; N],
        sum: Sum,
    ) -> bool {
        let Some(before) = self.load::<[u8; 2]>(offset) else {
            return false;
        };
        if self.partial {
            let pseudo = moved(u16::from_be_bytes(before), from, to);
            return !sum.pseudo || self.write(offset, pseudo.to_be_bytes());
        }
        if sum.udp && before == [0; 2] {
            return true;
        }
        if sum.pseudo && N == 4 {
            self.whole = self.whole.map(|whole| moved(whole, to, from));
        }
        let mut after = !moved(!u16::from_be_bytes(before), from, to);
        if sum.udp && after == 0 {
            after = 0xffff;
        }
        self.write(offset, after.to_be_bytes())
    }
    fn supplied(&mut self, from: [u8; 4], to: [u8; 4]) {
        self.whole = self.whole.map(|whole| moved(whole, &from, &to));
    }
    fn gso_size(&self) -> u32 {
        self.gso
    }
    fn tagged(&self) -> bool {
        self.tagged
    }
    fn ifindex(&self) -> u32 {
        self.ifindex
    }
    fn ingress_ifindex(&self) -> u32 {
        self.ingress
    }
    fn has_socket(&self) -> bool {
        self.socket
    }
    fn note_sender(&mut self, endpoint: u32) {
        self.sender = endpoint;
    }
    fn sender(&self) -> u32 {
        self.sender
    }
}

/// What became of a packet.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) step: Step,
    pub(crate) work: Work,
    pub(crate) frame: Frame,
}

impl Outcome {
    /// `Some(reason)` if it was dropped.
    pub(crate) fn reason(&self) -> Option<u8> {
        (self.step == Step::Drop).then_some(self.work.report.reason)
    }
}

impl World {
    pub(crate) fn send(&self, ifindex: u32, bytes: Vec<u8>) -> Outcome {
        self.run_from_pod(Frame {
            bytes,
            ifindex,
            ..Frame::default()
        })
    }

    pub(crate) fn run_from_pod(&self, mut frame: Frame) -> Outcome {
        let mut work = Work::default();
        let step = fastpath::from_pod(&mut frame, self, &mut work);
        Outcome { step, work, frame }
    }

    pub(crate) fn stack_to_pod(&self, ifindex: u32, ingress: u32, bytes: Vec<u8>) -> Outcome {
        self.run_to_pod(Frame {
            bytes,
            ifindex,
            ingress,
            ..Frame::default()
        })
    }

    pub(crate) fn run_to_pod(&self, mut frame: Frame) -> Outcome {
        let mut work = Work::default();
        let step = fastpath::to_pod(&mut frame, self, &mut work);
        Outcome { step, work, frame }
    }

    pub(crate) fn overlay(&self, vni: u32, outer: [u8; 4], bytes: Vec<u8>) -> Outcome {
        let frame = Frame {
            bytes,
            ..Frame::default()
        };
        self.run_overlay(vni, outer, frame)
    }

    pub(crate) fn run_overlay(&self, vni: u32, outer: [u8; 4], mut frame: Frame) -> Outcome {
        frame.ifindex = VXLAN;
        let mut work = Work::default();
        let key = Some((vni, abi::Addr::v4(outer)));
        let step = fastpath::from_overlay(&mut frame, self, &mut work, key);
        Outcome { step, work, frame }
    }

    pub(crate) fn stack_to_overlay(&self, ingress: u32, bytes: Vec<u8>) -> Outcome {
        self.run_to_overlay(Frame {
            bytes,
            ifindex: VXLAN,
            ingress,
            ..Frame::default()
        })
    }

    pub(crate) fn run_to_overlay(&self, mut frame: Frame) -> Outcome {
        let mut work = Work::default();
        let step = fastpath::to_overlay(&mut frame, self, &mut work);
        Outcome { step, work, frame }
    }
}
