//! The runner: scenarios that share a world, run one after another.
//!
//! ```text
//!   lane embedded:  review ─► api ─► fake ─► fight ─► flags ─► lab …   one after another
//!   lane real:      api ─► fake ─► …                                   beside it
//! ```
//!
//! A world (an API, a lab) costs seconds to start. The first scenario that needs one
//! starts it and all of its group use it. A world that cannot exist on this machine
//! has its scenarios reported as ignored, each with the reason, and named again at the
//! end. When a scenario fails, its world says what it sees and keeps its files.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

/// How long one scenario may take before it counts as failed: some boot six guests by
/// software emulation, while the other lane does the same.
const SCENARIO_LIMIT: Duration = Duration::from_secs(480);

/// Between a failure and what its world has to say about it.
const DETAILS: &str = "--- what there is to see ---";

/// Something that scenarios run in.
pub trait World: Send + Sized + 'static {
    /// Why it cannot exist on this machine, if so.
    fn unavailable(_choice: Self::Choice) -> Option<String> {
        None
    }

    /// Which of several worlds of this type.
    type Choice: Copy + Send + 'static;

    /// Starts it.
    fn start(choice: Self::Choice) -> impl Future<Output = anyhow::Result<Self>>;

    /// Called when a scenario failed: what there is to see, and where files were kept.
    fn explain(&mut self) -> impl Future<Output = String>;

    /// Takes it down, and fails when something stays behind.
    fn finish(self) -> impl Future<Output = anyhow::Result<()>> {
        async { Ok(()) }
    }
}

/// One story, told to a world.
pub type Story<W> = for<'a> fn(&'a mut W) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// A named list of stories: `stories![vm_lifecycle: a_stopped_vm_keeps_its_address, …]`.
#[macro_export]
macro_rules! stories {
    ($($module:ident : $($story:ident),+ $(,)?);+ $(;)?) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($story)),
            (|world| Box::pin($module::$story(world))) as $crate::suite::Story<_>,
        )),+),+]
    };
}

/// All tests of one binary.
#[derive(Debug)]
pub struct Suite {
    runtime: Arc<Runtime>,
    lanes: Vec<Vec<Planned>>,
    skipped: Arc<std::sync::Mutex<BTreeMap<String, Vec<String>>>>,
}

/// One test, which has its turn once those before it in its lane are over.
struct Planned {
    name: String,
    run: Box<dyn FnOnce() -> Result<Completion, Failed> + Send>,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Whose turn it is in a lane.
#[derive(Debug, Default)]
struct Turnstile {
    next: std::sync::Mutex<usize>,
    moved: Condvar,
}

impl Turnstile {
    /// Runs it when it is the turn of `place`, and then it is that of the next.
    fn pass<T>(&self, place: usize, run: impl FnOnce() -> T) -> T {
        let next = self.next.lock().expect("no holder panics");
        drop(self.moved.wait_while(next, |next| *next != place).expect("no holder panics"));
        let outcome = run();
        *self.next.lock().expect("no holder panics") += 1;
        self.moved.notify_all();
        outcome
    }
}

enum State<W> {
    Absent,
    Up(W),
    Broken(String),
}

impl Suite {
    /// No tests yet.
    ///
    /// # Errors
    /// When there can be no runtime.
    pub fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { runtime: Arc::new(runtime), lanes: vec![vec![]], skipped: Arc::default() })
    }

    /// What is added from now on is run beside what was added before.
    pub fn lane(&mut self) {
        self.lanes.push(vec![]);
    }

    /// A test that needs no world.
    pub fn plain(&mut self, name: &str, test: fn() -> anyhow::Result<()>) {
        self.plan(name.to_owned(), move || test().map_err(failed).map(|()| Completion::Completed));
    }

    fn plan(
        &mut self,
        name: String,
        run: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
    ) {
        let lane = self.lanes.last_mut().expect("there is always one");
        lane.push(Planned { name, run: Box::new(run) });
    }

    /// The scenarios of one world; the last one takes it down.
    pub fn group<W: World>(
        &mut self,
        group: &str,
        choice: W::Choice,
        stories: Vec<(&'static str, Story<W>)>,
    ) {
        let world = Arc::new(Mutex::new(State::Absent));
        for (name, story) in stories {
            let (runtime, world) = (self.runtime.clone(), world.clone());
            self.trial::<W>(format!("{group}::{name}"), choice, move || {
                runtime.block_on(async move { play(&mut *world.lock().await, choice, story).await })
            });
        }
        let runtime = self.runtime.clone();
        self.trial::<W>(format!("{group}::nothing_stays_behind"), choice, move || {
            runtime.block_on(async move {
                match std::mem::replace(&mut *world.lock().await, State::Absent) {
                    State::Up(world) => world.finish().await.map_err(failed),
                    // It never started, and whoever tried has said so.
                    State::Absent | State::Broken(_) => Ok(()),
                }
            })
        });
    }

    fn trial<W: World>(
        &mut self,
        name: String,
        choice: W::Choice,
        run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) {
        let skipped = self.skipped.clone();
        self.plan(name.clone(), move || {
            if let Some(reason) = W::unavailable(choice) {
                let mut skipped = skipped.lock().expect("no holder panics");
                skipped.entry(reason.clone()).or_default().push(name.clone());
                return Ok(Completion::ignored_with(reason));
            }
            let start = Instant::now();
            let outcome = run();
            let seconds = start.elapsed().as_secs_f64();
            if let Err(failed) = &outcome {
                // The whole of it comes at the end; this is for who watches.
                let message = failed.message().unwrap_or_default();
                let begun = message.split(DETAILS).next().unwrap_or_default().trim_end();
                println!("{name} failed:\n{begun}");
            }
            if seconds >= 1.0 {
                println!("{name} took {seconds:.1} s");
            }
            outcome.map(|()| Completion::Completed)
        });
    }

    /// Runs what the command line selects, each lane's one after another, and names at
    /// the end what was skipped and why.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        self.runtime.spawn(clean_up_on_signal());
        let mut trials = vec![];
        for lane in self.lanes {
            let turnstile = Arc::new(Turnstile::default());
            let mut places = 0..;
            for Planned { name, run } in lane {
                // The place of one that is not selected is never waited for.
                let place = if is_selected(&arguments, &name) { places.next() } else { None };
                let turnstile = turnstile.clone();
                trials.push(Trial::ignorable_test(name, move || {
                    let place = place.ok_or("it was not selected")?;
                    turnstile.pass(place, || {
                        std::panic::catch_unwind(AssertUnwindSafe(run))
                            .unwrap_or_else(|_| Err("it panicked".into()))
                    })
                }));
            }
        }
        // Each has a thread, in which most of them wait for their turn.
        arguments.test_threads = Some(trials.len().max(2));
        let conclusion = libtest_mimic::run(&arguments, trials);
        for (reason, names) in &*self.skipped.lock().expect("no holder panics") {
            println!("SKIPPED {} for this reason: {reason}", names.len());
            for name in names {
                println!("    {name}");
            }
        }
        conclusion.exit_code()
    }
}

/// Whether the command line asks for a test of this name, as libtest has it.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let is_named =
        |word: &String| if arguments.exact { name == word } else { name.contains(word.as_str()) };
    arguments.filter.as_ref().is_none_or(is_named) && !arguments.skip.iter().any(is_named)
}

async fn play<W: World>(
    state: &mut State<W>,
    choice: W::Choice,
    story: Story<W>,
) -> Result<(), Failed> {
    if let State::Absent = state {
        *state = match W::start(choice).await {
            Ok(world) => State::Up(world),
            Err(error) => State::Broken(format!("{error:#}")),
        };
    }
    let world = match state {
        State::Up(world) => world,
        State::Broken(why) => return Err(format!("its world did not start: {why}").into()),
        State::Absent => unreachable!("it was just started"),
    };
    let told = tokio::time::timeout(SCENARIO_LIMIT, story(world));
    let error = match AssertUnwindSafe(told).catch_unwind().await {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(error))) => format!("{error:#}"),
        Ok(Err(_)) => format!("not over after {SCENARIO_LIMIT:?}"),
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => format!("panicked: {text}"),
            None => "panicked".to_owned(),
        },
    };
    let explanation = world.explain().await;
    Err(format!("{error}\n{DETAILS}\n{explanation}").into())
}

fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}

/// Ctrl-C and the like end the run; what it has started goes too.
#[expect(clippy::disallowed_methods, reason = "whoever destructors would serve goes another way")]
async fn clean_up_on_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("\nended by a signal; taking everything down");
    if let Err(error) = crate::scratch::end_own_labs_after_this_process() {
        eprintln!("the next run will have to: {error:#}");
    }
    std::process::exit(130);
}
