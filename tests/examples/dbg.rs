use strandline_tests::sim::*;
use std::time::Duration;
fn main() {
    let mut args = std::env::args().skip(1);
    let n: usize = args.next().unwrap().parse().unwrap();
    let boards: usize = args.next().unwrap().parse().unwrap();
    let seed: u64 = args.next().unwrap().parse().unwrap();
    let mut world = World::with_cryptography(seed, Cryptography::StandIn);
    let servers = world.nodes(Kind::Server, n - boards);
    let bs = world.nodes(Kind::Board, boards);
    let all: Vec<_> = servers.iter().chain(&bs).copied().collect();
    world.run_for(Duration::from_secs(60));
    let mut miss = 0;
    for i in 0..100usize {
        let key = world.key(&format!("k{i}"));
        let w = all[(i * 7) % all.len()];
        let r = all[(i * 13 + 5) % all.len()];
        let ok = world.put(w, key, b"v");
        let got = world.get(r, key);
        if !ok || got.is_empty() {
            miss += 1;
            println!("{i}: put {ok} got {} writer {w:?} reader {r:?} {}", got.len(), key);
        }
    }
    println!("miss {miss}");
    for (name, set) in [("server", &servers), ("board", &bs)] {
        let c: Vec<usize> = set.iter().map(|&h| world.running(h).unwrap().stats().contacts).collect();
        println!("{name} contacts min {:?} max {:?} mean {}", c.iter().min(), c.iter().max(), c.iter().sum::<usize>() / c.len().max(1));
        let rec: Vec<usize> = set.iter().map(|&h| world.running(h).unwrap().stats().tables.iter().find(|t| t.name == "records").unwrap().used).collect();
        println!("{name} records max {:?} mean {}", rec.iter().max(), rec.iter().sum::<usize>() / rec.len().max(1));
    }
}
