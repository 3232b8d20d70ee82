//! From a request to a reply: the guard, the route, the handler, and what every reply has in common.

use std::rc::Rc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, header};

use super::guard::{self, Gate, Pass};
use super::problem::{Kind, Refusal, respond};
use super::query::Query;
use super::reply::{self, Answer, Reply};
use super::routes::{self, Page, Route};
use super::site::Site;
use super::{batch, cluster, dashboard, health, keys, namespaces, neighbours, repair, ring, value};

/// Answers one request.
pub(super) async fn answer(site: &Rc<Site>, request: Request<Incoming>) -> Reply {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let reply = reply_to(site, &parts, body).await;
    site.traffic.durations.observe(began.elapsed());
    count(site, reply.status());
    reply
}

fn count(site: &Site, status: StatusCode) {
    let class = usize::from(status.as_u16() / 100);
    if let Some(counter) = class.checked_sub(1).and_then(|at| site.traffic.replies.get(at)) {
        counter.set(counter.get() + 1);
    }
}

async fn reply_to(site: &Rc<Site>, parts: &Parts, body: Incoming) -> Reply {
    let (pass, answer) = match admitted(site, parts).await {
        Ok((pass, route, path)) => (pass, handle(site, route, parts, &path, body).await),
        Err(refusal) => (Pass::default(), Err(refusal)),
    };
    let mut reply = answer.unwrap_or_else(|refusal| {
        let mut reply = respond(&refusal);
        // RFC 9110 wants the methods there are in a 405.
        if let (StatusCode::METHOD_NOT_ALLOWED, Some((route, _))) =
            (reply.status(), routes::find(parts.uri.path()))
        {
            reply::set(&mut reply, header::ALLOW, route.allow());
        }
        reply
    });
    if site.context.handle.shared().leaving.get() {
        // So a client that keeps its connection for later does not find it closed then.
        reply::set(&mut reply, header::CONNECTION, "close");
    }
    if let Some(site_allowed) = pass.readable_by {
        reply::set(&mut reply, header::ACCESS_CONTROL_ALLOW_ORIGIN, site_allowed);
        reply::set(&mut reply, header::VARY, "Origin");
    }
    reply
}

/// The route of a request that may pass.
async fn admitted<'a>(
    site: &Site,
    parts: &'a Parts,
) -> Result<(Pass, &'static Route, Vec<&'a str>), Refusal> {
    let found = routes::find(parts.uri.path());
    let open =
        matches!(&found, Some((route, _)) if matches!(route.page, Page::Health | Page::Ready));
    let pass = if open { Pass::default() } else { guarded(site, parts).await? };
    let (route, path) =
        found.filter(|(route, _)| exists(site, route.page)).ok_or_else(no_such_path)?;
    if route.methods.contains(&parts.method) {
        return Ok((pass, route, path));
    }
    Err(Kind::MethodNotAllowed.because(format!("{} takes {}", route.template, route.allow())))
}

async fn guarded(site: &Site, parts: &Parts) -> Result<Pass, Refusal> {
    let settings = &site.context.settings;
    let members =
        if guard::is_browser(&parts.headers) { site.http_addresses() } else { Vec::new() };
    let gate =
        Gate { password: settings.password.as_deref(), hosts: &settings.hosts, members: &members };
    let passed = gate.check(parts);
    if matches!(&passed, Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED) {
        tokio::time::sleep(settings.password_penalty).await;
    }
    passed
}

/// The paths for experiments exist only in servers started for them.
fn exists(site: &Site, page: Page) -> bool {
    !matches!(page, Page::Cut | Page::Heal | Page::SlowDisk) || site.context.experiments.is_some()
}

fn no_such_path() -> Refusal {
    Kind::NoSuchPath.because("GET /openapi.json describes all paths")
}

async fn handle(
    site: &Rc<Site>,
    route: &Route,
    request: &Parts,
    path: &[&str],
    body: Incoming,
) -> Answer {
    match route.page {
        Page::Value => value::answer(site, request, path, body).await,
        Page::Keys => keys::answer(site, request, path).await,
        Page::Batch => batch::answer(site, request, body).await,
        Page::Namespaces => namespaces::all(site, request),
        Page::Namespace => namespaces::one(site, request, path),
        Page::Status | Page::Nodes | Page::Tasks | Page::Repair => {
            view_anywhere(site, route.page, request).await
        }
        Page::Ring => ring::table(site, request),
        Page::KeyOwners => ring::key_owners(site, request, path).await,
        Page::Cut => cut(site, request, true).await,
        Page::Heal => cut(site, request, false).await,
        Page::SlowDisk => slow_disk(site, request).await,
        Page::Metrics => health::figures(site, request).await,
        Page::Health => Ok(health::alive()),
        Page::Ready => health::ready(site).await,
        Page::OpenApi => Ok(dashboard::openapi()),
        Page::Dashboard => Ok(dashboard::page(site)),
        Page::DashboardStyle => Ok(dashboard::style()),
        Page::DashboardScript => Ok(dashboard::script()),
    }
}

/// A view of one node: of this one, or of the node of this server that is named.
async fn view_anywhere(site: &Rc<Site>, page: Page, request: &Parts) -> Answer {
    let Some((number, request)) = neighbours::addressee(site, request)? else {
        return view(site, page, request).await;
    };
    let asked =
        neighbours::at(site, number, move |site| async move { view(&site, page, &request).await });
    asked.await.unwrap_or_else(|| Err(neighbours::silent(number)))
}

async fn view(site: &Rc<Site>, page: Page, request: &Parts) -> Answer {
    match page {
        Page::Status => cluster::status(site, request).await,
        Page::Nodes => cluster::nodes(site, request),
        Page::Tasks => cluster::tasks(site, request),
        Page::Repair => repair::answer(site, request).await,
        _ => Err(no_such_path()),
    }
}

/// Cuts all nodes of this server off from those of others, or ends that.
async fn cut(site: &Rc<Site>, request: &Parts, away: bool) -> Answer {
    assert_eq!(request.method, Method::POST, "the table of routes takes nothing else");
    Query::parse(request.uri.query(), &[])?;
    let cut = neighbours::everywhere(site, move |site| async move {
        let hooks = site.context.experiments.as_ref().ok_or_else(no_such_path)?;
        (hooks.cut)(away);
        Ok::<(), Refusal>(())
    });
    cut.await.into_iter().flatten().collect::<Result<Vec<()>, _>>()?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Makes the disks of all nodes of this server slow, or as fast as they are.
async fn slow_disk(site: &Rc<Site>, request: &Parts) -> Answer {
    let query = Query::parse(request.uri.query(), &["read", "commit"])?;
    let (read_ms, commit_ms) = (query.delay_ms("read")?, query.delay_ms("commit")?);
    let slowed = neighbours::everywhere(site, move |site| async move {
        let hooks = site.context.experiments.as_ref().ok_or_else(no_such_path)?;
        (hooks.slow_disk)(read_ms, commit_ms);
        Ok::<(), Refusal>(())
    });
    slowed.await.into_iter().flatten().collect::<Result<Vec<()>, _>>()?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
