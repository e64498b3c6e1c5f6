//! What a manager tells of the work of services: counts, times, what runs, and who waits for whom.

mod counts;
mod times;
mod waits;

use skyhold::{InstanceReport, ManagerHandle, MethodReport, ServiceReport};

/// What the manager tells of a service.
async fn stats(manager: &ManagerHandle, service: &str) -> ServiceReport {
    manager.stats(service.to_owned()).await.unwrap().unwrap_or_else(|| panic!("there is no {service}"))
}

/// What it tells of a method of it.
async fn method(manager: &ManagerHandle, service: &str, method: &str) -> MethodReport {
    let report = stats(manager, service).await;
    report.methods.into_iter().find(|report| report.method == method).unwrap()
}

/// What it tells of the only instance of a service.
async fn instance(manager: &ManagerHandle, service: &str) -> InstanceReport {
    let all = manager.instances().await.unwrap();
    let mut of_service = all.into_iter().filter(|instance| instance.service == service);
    let instance = of_service.next().unwrap_or_else(|| panic!("there is no {service}"));
    assert!(of_service.next().is_none(), "there is more than one {service}");
    instance
}
