//! Connections that fall silent or end, and what others tell of those behind them.

use super::*;

#[test]
fn a_node_that_is_cut_off_loses_the_others_when_their_connections_fall_silent() {
    let mut too_slow = 0;
    for seed in 1..=60 {
        let mut cluster = Simulation::cluster(seed, 5);
        cluster.run(Duration::from_millis(10_000 + 37 * seed));
        for other in 0..4 {
            cluster.cut.extend([(4, other), (other, 4)]);
        }
        let all_are_lost = |cluster: &Simulation| cluster.core(4).view.members().count() == 0;
        let alone = cluster.run_until(Duration::from_secs(5), all_are_lost);
        too_slow += u32::from(alone.is_none());
        for index in 0..4 {
            let silent = |core: &mut Membership, now| core.handle_silent(&name(index), Incarnation(1), now);
            cluster.with(4, silent);
        }
        assert!(all_are_lost(&cluster), "seed {seed}");
        cluster.run(Duration::from_secs(1));
        assert_eq!(cluster.core(0).view.members().count(), 3, "the others have lost it alone");
    }
    assert!(too_slow > 0, "it is not needed");
}

#[test]
fn a_node_that_is_cut_off_from_many_loses_the_last_of_them_two_seconds_later() {
    let mut cluster = Simulation::cluster(1, 20);
    cluster.run(Duration::from_secs(10));
    for other in 0..19 {
        cluster.cut.extend([(19, other), (other, 19)]);
    }
    let left = |cluster: &Simulation| cluster.core(19).view.members().count();
    cluster.run(Duration::from_secs(5));
    for index in 0..19 {
        cluster.with(19, |core, now| core.handle_silent(&name(index), Incarnation(1), now));
    }
    assert!(left(&cluster) > 5, "it has asked a few: {}", left(&cluster));
    cluster.run(Duration::from_secs(2));
    assert_eq!(left(&cluster), 0);
}

#[test]
fn who_comes_back_from_behind_a_partition_makes_nobody_dead_who_is_not() {
    for seed in 1..=10 {
        let mut cluster = Simulation::cluster(seed, 8);
        cluster.run(Duration::from_secs(10));
        let alone = |index| index >= 6;
        for (a, b) in (0..6).flat_map(|a| (6..8).map(move |b| (a, b))) {
            cluster.cut.extend([(a, b), (b, a)]);
        }
        cluster
            .run_until(LONG, |cluster| cluster.core(6).view.members().count() == 1)
            .expect("they lose the others");
        cluster.lose_connections();
        cluster.run(Duration::from_secs(20));
        cluster.cut.clear();
        let healed = cluster.run_until(LONG, |cluster| cluster.all_see(8)).expect("all see all");
        assert!(healed < Duration::from_secs(10), "seed {seed}: {healed:?}");
        cluster.run(Duration::from_secs(30));
        assert!(cluster.all_see(8));
        let died = cluster.told.iter().filter_map(|(_, by, event)| match event {
            Event::MemberDied { node, .. } => Some((*by, cluster.names[node])),
            _ => None,
        });
        let wrong: Vec<_> = died.filter(|(by, of)| alone(*by) == alone(*of)).collect();
        assert_eq!(wrong, [], "seed {seed}: who told of whom");
    }
}

#[test]
fn a_node_whose_connection_falls_silent_to_one_other_alone_says_that_it_lives() {
    let mut cluster = Simulation::cluster(10, 10);
    cluster.run(Duration::from_secs(20));
    cluster.cut.extend([(2, 3), (3, 2)]);
    cluster.run(Duration::from_secs(5));
    cluster.with(2, |core, now| core.handle_silent(&name(3), Incarnation(1), now));
    assert_eq!(cluster.core(2).members().members[3].state, MemberState::Suspected);
    cluster.run(LONG);
    assert_eq!(cluster.told(is_died), 0);
    assert!(cluster.all_see(10));
}
