//! The public listener: actix's HTTP/1 service, assembled by hand.
//!
//! actix-web's own builder answers `Expect: 100-continue` before it calls a route. A client would
//! then send all of a body even if the route refuses the request because of its head. This listener
//! calls the route first. It sends `100 Continue` when the handler starts to read the body
//! ([`Expecting`]).

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

use super::challenges::Challenges;
use super::client_stream::ClientStream;
use super::deadlines::Deadlines;
use super::express::Express;

/// The limits of the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListenerLimits {
    /// The number of threads that serve connections.
    pub(super) workers: usize,
    /// The most connections at a time, on all threads. Further ones wait in the kernel.
    pub(super) connections: usize,
    /// How long a connection may be idle between two requests.
    pub(super) keep_alive: Duration,
    /// How long the head of a connection's first request may take.
    pub(super) head: Duration,
    /// How long the server reads from a connection that it closes, so that the client can read the
    /// response.
    pub(super) linger: Duration,
    /// How long requests in flight may take after the server was told to stop, in seconds.
    pub(super) stop_seconds: u64,
}

/// A running handler, which resolves to its response.
type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<BoxBody>, actix_web::Error>>>>;
/// The routes of one worker, as one function.
type Routes = Rc<dyn Fn(Request) -> ResponseFuture>;

/// Serves the routes on `listener`. Each worker builds its routes with `app`. `express` answers
/// what needs no route.
///
/// # Errors
/// If the listener can't be used.
pub(super) fn serve<A, F, S, B>(
    listener: TcpListener,
    limits: ListenerLimits,
    deadlines: Arc<Deadlines>,
    express: Express,
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
        .workers(limits.workers)
        .max_concurrent_connections(limits.connections.div_ceil(limits.workers))
        .shutdown_timeout(limits.stop_seconds)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    builder
        .listen("pixtoll", listener, move || {
            let (deadlines, stopping) = (Arc::clone(&deadlines), stopping.clone());
            let express = express.of_worker();
            let worker = Worker::default();
            let routes = worker.clone();
            let inner = map_config(app(), |()| AppConfig::default());
            let http = HttpServiceBuilder::default()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .keep_alive(limits.keep_alive)
                .client_request_timeout(limits.head)
                .client_disconnect_timeout(limits.linger)
                .expect(ExpectingFactory(worker))
                .on_connect_ext(|stream: &ClientStream, data| stream.describe(data))
                .h1::<_, BoxBody>(RoutingFactory {
                    inner,
                    worker: routes,
                    express,
                });
            fn_service(move |socket: TcpStream| {
                let stream = ClientStream::new(socket, &deadlines);
                async move {
                    let peer = stream.peer();
                    Ok::<_, DispatchError>((stream, peer))
                }
            })
            .and_then(http)
        })
        .map(actix_server::ServerBuilder::run)
}

/// The routes of one worker, set when they are built. [`Routing`] and [`Expecting`] both call them.
#[derive(Clone, Default)]
struct Worker(Rc<OnceCell<Routes>>);

/// Builds the [`Routing`] of one worker.
struct RoutingFactory<F> {
    inner: F,
    worker: Worker,
    express: Express,
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
        let express = self.express.clone();
        let challenges = express.challenges();
        Box::pin(async move {
            let service = building.await?;
            let known = challenges.clone();
            let routes: Routes = Rc::new(move |request: Request| -> ResponseFuture {
                let known = Challenges::may_answer(&request).then(|| known.clone());
                let answer = service.call(request);
                Box::pin(async move {
                    let mut answer = answer.await?;
                    if let Some(known) = known {
                        known.keep(&mut answer);
                    }
                    let response: Response<B> = answer.into();
                    Ok(response.map_into_boxed_body())
                })
            });
            Ok(Routing {
                routes: Rc::clone(worker.0.get_or_init(|| routes)),
                challenges,
                express,
            })
        })
    }
}

/// The service of all requests. It continues the handler that [`Expecting`] has started for a
/// request.
struct Routing {
    routes: Routes,
    challenges: Challenges,
    express: Express,
}

impl Service<Request> for Routing {
    type Response = Response<BoxBody>;
    type Error = actix_web::Error;
    type Future = ResponseFuture;

    always_ready!();

    fn call(&self, request: Request) -> ResponseFuture {
        // Before anything else: the request that carries a running handler has no head of its own, but
        // that of an earlier request.
        let begun = request.extensions_mut().remove::<RunningHandler>();
        if let Some(RunningHandler(response)) = begun {
            return response;
        }
        if let Some(response) = self.express.answer(&request) {
            return Box::pin(std::future::ready(Ok(response)));
        }
        if !Challenges::may_answer(&request) {
            return (self.routes)(request);
        }
        let (routes, challenges) = (Rc::clone(&self.routes), self.challenges.clone());
        Box::pin(async move {
            match challenges.answer(&request).await {
                Some(response) => Ok(response),
                None => routes(request).await,
            }
        })
    }
}

/// A started handler that waits for the body of its request.
struct RunningHandler(ResponseFuture);

/// Whether the handler has started to read the body of a request with `Expect: 100-continue`. The
/// client sends no body before that.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyRequested(Rc<Cell<bool>>);

impl BodyRequested {
    /// Whether `100 Continue` was sent, or will be sent before anything else.
    pub(super) fn is_set(&self) -> bool {
        self.0.get()
    }
}

/// Builds the [`Expecting`] of one worker.
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

/// The service of requests with `Expect: 100-continue`. actix writes `100 Continue` when this
/// service returns a request, and sends what it returns as an error as the response. So this
/// service runs the handler. If the handler responds before it reads the body, its response is
/// returned as such an error. If the handler waits for the body, [`Routing`] continues it.
struct Expecting(Worker);

impl Service<Request> for Expecting {
    type Response = Request;
    type Error = Response<BoxBody>;
    type Future = Pin<Box<dyn Future<Output = Result<Request, Response<BoxBody>>>>>;

    always_ready!();

    fn call(&self, mut request: Request) -> Self::Future {
        // The routes are set here, because both services are built before the first connection.
        let Some(routes) = self.0.0.get() else {
            return Box::pin(std::future::ready(Ok(request)));
        };
        let requested = BodyRequested::default();
        let payload = TrackedPayload {
            payload: request.take_payload(),
            requested: requested.clone(),
        };
        *request.payload() = Payload::Stream {
            payload: Box::pin(payload),
        };
        request.extensions_mut().insert(requested.clone());
        let mut running = Some(routes(request));
        Box::pin(poll_fn(move |context| {
            let polled = running.as_mut().map(|it| it.as_mut().poll(context));
            match polled {
                Some(Poll::Ready(Ok(response))) => Poll::Ready(Err(response)),
                Some(Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
                Some(Poll::Pending) if requested.is_set() => {
                    // actix takes it from a pool, with the head of the request that used it last.
                    let request = Request::new();
                    if let Some(response) = running.take() {
                        request.extensions_mut().insert(RunningHandler(response));
                    }
                    Poll::Ready(Ok(request))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            }
        }))
    }
}

/// A body that notes in `requested` when it is read for the first time.
struct TrackedPayload {
    payload: Payload,
    requested: BodyRequested,
}

impl Stream for TrackedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.requested.0.set(true);
        Pin::new(&mut self.payload).poll_next(context)
    }
}
