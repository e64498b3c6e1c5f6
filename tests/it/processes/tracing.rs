//! The example `tracing`: a trace that crosses two processes.

use super::Process;

#[tokio::test]
async fn a_trace_that_begins_in_one_process_goes_on_in_another_and_both_export_it() {
    let ended = Process::start("tracing", [""; 0]).end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (result, trace) = ended.stdout.split_once("\n\ntrace ").expect(&ended.stdout);
    assert_eq!(result, "7 apples are left");
    let (id, spans) = trace.split_once('\n').unwrap();
    assert_eq!(id.len(), 32, "{id}");
    // One trace and no other, and each span is in the one before.
    let expected = "  shop: purchase (Internal)
    shop: till.sell (Client)
      shop: till.sell (Server)
        shop: shelf.take (Client)
          stock-room: shelf.take (Server)
            stock-room: reach into the shelf (Internal)
";
    assert_eq!(spans, expected);
}
