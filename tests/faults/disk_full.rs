//! A data folder whose disk is full, and then is not.

use std::{fs, io::Write as _, path::Path, time::Duration};

use crate::{
    client::Client,
    disk_errors::calls_until,
    mount::Mounted,
    scene::{Scene, compare, post, say, script, start},
};

/// Fills a file system to its last byte.
fn fill(place: &Path) {
    let mut ballast = fs::File::create(place.join("ballast")).unwrap();
    for block in [1 << 20, 4096, 1] {
        let zeros = vec![0; block];
        while ballast.write_all(&zeros).is_ok() {}
    }
}

#[test]
fn a_full_disk_refuses_within_a_second_and_recovers_within_five() {
    let Some(disk) = Mounted::in_memory(48) else { return };
    let scene = Scene::prepare();
    scene.copy_to(disk.path());
    let server = start(disk.path());
    let mut told = script(&server, &scene);
    assert_eq!(told.refused, 0);
    fill(disk.path());
    // The segments that are there already are a reserve: calls go on being answered until it is used up.
    let answered_before = told.answered;
    let refused = calls_until(&server, &scene, &mut told, 503);
    let reserve = told.answered - answered_before;
    assert!(refused < Duration::from_secs(1), "a refusal took {refused:?}");
    let event = post(&mut Client::connect(&server), &scene.token, &scene.event(9_999));
    assert!(event.is_some_and(|status| status >= 500), "an event that cannot be stored is not accepted: {event:?}");
    fs::remove_file(disk.path().join("ballast")).unwrap();
    let recovered = calls_until(&server, &scene, &mut told, 200);
    assert!(recovered < Duration::from_secs(5), "it took {recovered:?} to recover");
    server.signal("KILL");
    server.ended();
    compare(&scene, disk.path(), &told, "a full disk");
    say(&format!(
        "a full disk: {reserve} calls from the reserve, refused after {refused:?}, recovered after {recovered:?}; lost 0, doubled 0"
    ));
}

#[test]
fn a_disk_that_is_full_at_the_start_loses_nothing() {
    let Some(disk) = Mounted::in_memory(48) else { return };
    let scene = Scene::prepare();
    scene.copy_to(disk.path());
    let server = start(disk.path());
    let told = script(&server, &scene);
    server.signal("KILL");
    server.ended();
    fill(disk.path());
    // It may refuse to start, or start and refuse calls; either way what was answered stays.
    if let Some(server) = crate::server::Server::try_run(&mut crate::scene::serve(&[], disk.path())) {
        server.signal("KILL");
        server.ended();
    }
    fs::remove_file(disk.path().join("ballast")).unwrap();
    compare(&scene, disk.path(), &told, "full at the start");
}
