//! The central configuration: read and written from anywhere, by whichever node is reached.

use skyhold::{Node, SettingVersion, Version};

use super::places::any_manager;
use crate::args::Config;
use crate::failure::Failure;
use crate::output::Output;

/// What is asked of the central configuration.
pub(super) async fn config(node: &Node, command: Config, output: &Output) -> Result<(), Failure> {
    let manager = any_manager(node).await?;
    match command {
        Config::Get { key } => {
            let setting = manager.config_get(key.clone()).await?.map_err(refused)?;
            let Some(setting) = setting.filter(|setting| setting.value.is_some()) else {
                return Err(Failure::failed(format!("`{key}` is not set")));
            };
            output.answer(&setting, |setting| setting.value.clone().unwrap_or_default() + "\n")
        }
        Config::Set { key, value, expect } => {
            let version = manager.config_set(key, value, expect.map(Version)).await?.map_err(refused)?;
            written(version, output)
        }
        Config::Delete { key, expect } => {
            let version = manager.config_delete(key, expect.map(Version)).await?.map_err(refused)?;
            written(version, output)
        }
        Config::Rollback { key, version } => {
            let version = manager.config_rollback(key, Version(version)).await?.map_err(refused)?;
            written(version, output)
        }
        Config::List { prefix } => table(&manager.config_list(prefix).await?.map_err(refused)?, output),
        Config::History { key } => table(&manager.config_history(key).await?.map_err(refused)?, output),
    }
}

fn written(version: Version, output: &Output) -> Result<(), Failure> {
    output.answer(&version, |version| format!("version {}\n", version.0))
}

fn table(settings: &Vec<SettingVersion>, output: &Output) -> Result<(), Failure> {
    output.answer(settings, |settings| {
        let rows: Vec<_> = settings.iter().map(row).collect();
        output.table(&["KEY", "VERSION", "BY", "VALUE"], &rows)
    })
}

fn row(setting: &SettingVersion) -> Vec<String> {
    let value = setting.value.clone().unwrap_or_else(|| "(deleted)".to_owned());
    vec![setting.key.clone(), setting.version.0.to_string(), setting.by.to_string(), value]
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn refused(error: skyhold::CentralError) -> Failure {
    Failure::failed(error.to_string())
}
