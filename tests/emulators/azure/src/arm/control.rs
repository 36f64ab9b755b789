//! By-hand steering over HTTP: `/_emulator/{groups,history,meter,limits}` to read, `/_emulator/scripts` to give a [`Script`].
//! Faults and the journal have their own routes in emulator-common.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::groups::meter::MeterRow;
use crate::groups::view::GroupView;
use crate::handle;
use crate::options::Limits;
use crate::scripts::Script;
use crate::world::World;

/// The routes, to be merged ahead of the emulated ones.
pub(crate) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/_emulator/groups", get(groups))
        .route("/_emulator/history", get(history))
        .route("/_emulator/meter", get(meter))
        .route("/_emulator/limits", get(limits))
        .route("/_emulator/scripts", post(script))
        .with_state(world)
}

async fn groups(State(world): State<Arc<World>>) -> Json<Vec<GroupView>> {
    Json(handle::groups(&world))
}

async fn history(State(world): State<Arc<World>>) -> Json<Vec<GroupView>> {
    Json(handle::history(&world))
}

async fn meter(State(world): State<Arc<World>>) -> Json<Vec<MeterRow>> {
    Json(handle::meter(&world))
}

async fn limits(State(world): State<Arc<World>>) -> Json<Limits> {
    Json(world.lock().limits)
}

async fn script(State(world): State<Arc<World>>, Json(script): Json<Script>) -> StatusCode {
    handle::apply(&world, script);
    StatusCode::NO_CONTENT
}
