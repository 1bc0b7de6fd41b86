//! The public listener: actix's HTTP/1 service, put together by hand.
//!
//! actix-web's own builder answers `Expect: 100-continue` before any route is asked, so that a client would send all of
//! a body which its head alone refuses. Here the routes are asked first, and `100 Continue` goes out when a handler
//! begins to read the body ([`Expecting`]).

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpMessage, HttpServiceBuilder, Request};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{
    AppConfig, Payload, Response, Server, Service, ServiceFactory, ServiceResponse, always_ready,
    fn_service,
};
use actix_web::error::PayloadError;
use actix_web::rt::net::TcpStream;
use bytes::Bytes;
use futures_util::Stream;

use super::line::Line;
use super::watch::Watch;

/// The limits of the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Threads that serve connections.
    pub(super) workers: usize,
    /// Connections at once, on all threads; the next ones wait in the kernel.
    pub(super) connections: usize,
    /// How long a connection may be idle.
    pub(super) keep_alive: Duration,
    /// How long the head of a connection's first request may take.
    pub(super) head: Duration,
    /// How long a connection that is being closed is read from, so that its client gets to read the answer.
    pub(super) linger: Duration,
    /// How long requests in flight may take after the server was told to stop, in seconds.
    pub(super) stop_seconds: u64,
}

/// A running handler: its answer, when there is one.
type Answering = Pin<Box<dyn Future<Output = Result<Response<BoxBody>, actix_web::Error>>>>;
/// The routes of one worker.
type Routes = Rc<dyn Fn(Request) -> Answering>;

/// Serves the routes that `app` makes, once a worker, on `listener`.
///
/// # Errors
/// When the listener can't be used.
pub(super) fn serve<A, F, S, B>(
    listener: TcpListener,
    bounds: Bounds,
    watch: Arc<Watch>,
    app: A,
) -> std::io::Result<Server>
where
    A: Fn() -> F + Send + Clone + 'static,
    F: IntoServiceFactory<S, Request>,
    S: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
    S::Service: 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let builder = Server::build()
        .workers(bounds.workers)
        .max_concurrent_connections(bounds.connections.div_ceil(bounds.workers))
        .shutdown_timeout(bounds.stop_seconds)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    builder
        .listen("pixtoll", listener, move || {
            let (watch, stopping) = (Arc::clone(&watch), stopping.clone());
            let worker = Worker::default();
            let routes = worker.clone();
            let inner = map_config(app(), |()| AppConfig::default());
            let http = HttpServiceBuilder::default()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .keep_alive(bounds.keep_alive)
                .client_request_timeout(bounds.head)
                .client_disconnect_timeout(bounds.linger)
                .expect(ExpectingFactory(worker))
                .on_connect_ext(|line: &Line, data| line.describe(data))
                .h1::<_, BoxBody>(RoutingFactory {
                    inner,
                    worker: routes,
                });
            fn_service(move |socket: TcpStream| {
                let line = Line::new(socket, &watch);
                async move {
                    let peer = line.peer();
                    Ok::<_, DispatchError>((line, peer))
                }
            })
            .and_then(http)
        })
        .map(actix_server::ServerBuilder::run)
}

/// The routes of a worker, from when they are built: the service of `Expect` needs them, too.
#[derive(Clone, Default)]
struct Worker(Rc<OnceCell<Routes>>);

struct RoutingFactory<F> {
    inner: F,
    worker: Worker,
}

impl<F, B> ServiceFactory<Request> for RoutingFactory<F>
where
    F: ServiceFactory<
            Request,
            Config = (),
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
            InitError = (),
        >,
    F::Service: 'static,
    F::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = Response<BoxBody>;
    type Error = actix_web::Error;
    type Config = ();
    type Service = Routing;
    type InitError = ();
    type Future = Pin<Box<dyn Future<Output = Result<Routing, ()>>>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let building = self.inner.new_service(());
        let worker = self.worker.clone();
        Box::pin(async move {
            let service = building.await?;
            let routes: Routes = Rc::new(move |request: Request| -> Answering {
                let answer = service.call(request);
                Box::pin(async move {
                    let response: Response<B> = answer.await?.into();
                    Ok(response.map_into_boxed_body())
                })
            });
            Ok(Routing(Rc::clone(worker.0.get_or_init(|| routes))))
        })
    }
}

/// The service of all requests. One that [`Expecting`] began goes on where it is.
struct Routing(Routes);

impl Service<Request> for Routing {
    type Response = Response<BoxBody>;
    type Error = actix_web::Error;
    type Future = Answering;

    always_ready!();

    fn call(&self, request: Request) -> Answering {
        let begun = request.extensions_mut().remove::<Begun>();
        match begun {
            Some(Begun(answering)) => answering,
            None => (self.0)(request),
        }
    }
}

/// A handler that waits for the body of its request.
struct Begun(Answering);

/// Whether the body of a request with `Expect: 100-continue` was asked for. Before that its client sends nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Rc<Cell<bool>>);

impl Asked {
    /// Whether `100 Continue` was sent, or will be before anything else.
    pub(super) fn for_body(&self) -> bool {
        self.0.get()
    }
}

struct ExpectingFactory(Worker);

impl ServiceFactory<Request> for ExpectingFactory {
    type Response = Request;
    type Error = Response<BoxBody>;
    type Config = ();
    type Service = Expecting;
    type InitError = ();
    type Future = std::future::Ready<Result<Expecting, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        std::future::ready(Ok(Expecting(self.0.clone())))
    }
}

/// The service of requests with `Expect: 100-continue`. actix writes `100 Continue` when it returns a request, and takes
/// what it returns as an error for the answer. So it runs the handler: an answer that comes before the body was asked for
/// is such an error, and a handler that waits for the body is handed on to [`Routing`].
struct Expecting(Worker);

impl Service<Request> for Expecting {
    type Response = Request;
    type Error = Response<BoxBody>;
    type Future = Pin<Box<dyn Future<Output = Result<Request, Response<BoxBody>>>>>;

    always_ready!();

    fn call(&self, mut request: Request) -> Self::Future {
        // Without routes there are no requests: both are built before the first connection.
        let Some(routes) = self.0.0.get() else {
            return Box::pin(std::future::ready(Ok(request)));
        };
        let asked = Asked::default();
        let payload = Asking {
            payload: request.take_payload(),
            asked: asked.clone(),
        };
        *request.payload() = Payload::Stream {
            payload: Box::pin(payload),
        };
        request.extensions_mut().insert(asked.clone());
        let mut running = Some(routes(request));
        Box::pin(poll_fn(move |context| {
            let polled = running.as_mut().map(|it| it.as_mut().poll(context));
            match polled {
                Some(Poll::Ready(Ok(response))) => Poll::Ready(Err(response)),
                Some(Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                Some(Poll::Pending) if asked.for_body() => {
                    let request = Request::new();
                    if let Some(answering) = running.take() {
                        request.extensions_mut().insert(Begun(answering));
                    }
                    Poll::Ready(Ok(request))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            }
        }))
    }
}

/// A body that notes when it is read for the first time.
struct Asking {
    payload: Payload,
    asked: Asked,
}

impl Stream for Asking {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.asked.0.set(true);
        Pin::new(&mut self.payload).poll_next(context)
    }
}
