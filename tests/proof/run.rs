//! The driver: which scenarios are run, in which order, and what is shown at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::network::Network;
use crate::scenarios::{self, Scenario};
use crate::scene::{Plan, Scene};
use crate::table::Row;
use crate::words::NODES;

/// How long the calibration calls.
const CALIBRATION: Duration = Duration::from_millis(1500);

/// The driver's program.
pub(crate) fn main() -> Fallible<()> {
    let arguments = Arguments::read(std::env::args().skip(1));
    let is_full = std::env::var("SKYHOLD_PROOF").is_ok_and(|which| which == "full");
    let chosen = scenarios::all().into_iter().filter(|scenario| arguments.wants(scenario.name));
    let chosen: Vec<_> = chosen.filter(|scenario| is_full || !scenario.is_long).collect();
    if arguments.list {
        chosen.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return Ok(());
    }
    if chosen.is_empty() {
        return Ok(());
    }
    let seed = match std::env::var("SKYHOLD_PROOF_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => crate::clock::now(),
    };
    let network = Network::build();
    let begin = Instant::now();
    println!("\nthe proof: {NODES} processes, {}; SKYHOLD_PROOF_SEED={seed}", medium(&network));
    let folder = tempfile::Builder::new().prefix("skyhold-proof-").tempdir()?;
    let plan = calibrated(seed, is_full, &network, folder.path())?;
    let mut rows = Vec::new();
    for scenario in &chosen {
        let row = play(scenario, plan, &network, folder.path());
        row.print();
        rows.push(row);
    }
    let failed = rows.iter().filter(|row| !row.wrong.is_empty()).count();
    println!("{} scenarios, {failed} failed, in {:.0} s\n", rows.len(), begin.elapsed().as_secs_f64());
    if failed == 0 {
        return Ok(());
    }
    let kept = folder.keep();
    Err(format!(
        "the proof failed: SKYHOLD_PROOF_SEED={seed}; what the nodes said and did is in {}",
        kept.display()
    )
    .into())
}

fn medium(network: &Network) -> String {
    match network {
        Network::Namespaces(_) => "each in a network namespace".to_owned(),
        Network::Loopback(why) => format!("on loopback addresses, where nothing can be cut ({why})"),
    }
}

/// Measures how much the nodes answer when all of them call as fast as they can. The load of the scenarios is half of that.
fn calibrated(seed: u64, is_full: bool, network: &Network, folder: &Path) -> Fallible<Plan> {
    let mut cluster = Cluster::start(network, &folder.join("calibration"))?;
    let per_second = cluster.calibrate(CALIBRATION)?;
    let half = u32::try_from(per_second / 2)?;
    println!(
        "{per_second} calls/s at most; the load is {half} calls/s, or half of that, from all nodes to all nodes"
    );
    Ok(Plan { seed, per_second: half / u32::try_from(NODES)?, is_full })
}

/// Runs one scenario. Whatever becomes of it, its processes have ended and the network is whole afterwards.
fn play(scenario: &Scenario, plan: Plan, network: &Network, folder: &Path) -> Row {
    let mut row = Row::new(scenario.name);
    if scenario.needs_cuts && network.cables().is_none() {
        row.passed_over = Some("it cuts the network, and loopback cannot be cut".to_owned());
        return row;
    }
    let begin = Instant::now();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut scene = match Scene::begin(scenario.name, plan, network, &folder.join(scenario.name)) {
            Ok(scene) => scene,
            Err(error) => return failed(scenario, &error.to_string()),
        };
        if let Err(error) = (scenario.play)(&mut scene) {
            scene.row.wrong.push(error.to_string());
        }
        scene.end()
    }));
    row = played.unwrap_or_else(|_| failed(scenario, "the scenario panicked"));
    if let Err(error) = network.heal() {
        row.wrong.push(format!("the network is not whole again: {error}"));
    }
    row.took = begin.elapsed();
    row
}

fn failed(scenario: &Scenario, why: &str) -> Row {
    let mut row = Row::new(scenario.name);
    row.wrong.push(why.to_owned());
    row
}
