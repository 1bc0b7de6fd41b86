use super::*;

/// The table of transitions, written again as data. Every other pair must not change the state.
const TABLE: &[(PaymentState, Event, PaymentState)] = {
    use Event as E;
    use PaymentState as S;
    &[
        (S::Received, E::PresentedAgain, S::Received),
        (S::Received, E::VerifyAccepted, S::Verified),
        (S::Received, E::VerifyRefused, S::Rejected),
        (S::Received, E::WindowClosed, S::Rejected),
        (S::Received, E::GivenUp, S::Released),
        (S::Received, E::ChainPaid, S::Settled),
        (S::Verified, E::SettleStarted, S::Settling),
        (S::Verified, E::GivenUp, S::Released),
        (S::Verified, E::WindowClosed, S::Released),
        (S::Verified, E::ChainPaid, S::Settled),
        (S::Rejected, E::PresentedAgain, S::Received),
        (S::Rejected, E::ChainPaid, S::Settled),
        (S::Released, E::PresentedAgain, S::Received),
        (S::Released, E::ChainPaid, S::Settled),
        (S::Settling, E::SettleProven, S::Settled),
        (S::Settling, E::SettleRefused, S::Failed),
        (S::Settling, E::SettleUnclear, S::Unknown),
        (S::Settling, E::ChainPaid, S::Settled),
        (S::Settling, E::ChainVoid, S::Failed),
        (S::Unknown, E::SettleProven, S::Settled),
        (S::Unknown, E::ChainPaid, S::Settled),
        (S::Unknown, E::ChainVoid, S::Failed),
        (S::Failed, E::ChainPaid, S::Settled),
    ]
};

#[test]
fn the_transitions_are_those_of_the_table_and_no_others() {
    for state in PaymentState::ALL {
        for event in Event::ALL {
            let expected = TABLE
                .iter()
                .find(|row| row.0 == state && row.1 == event)
                .map(|row| row.2);
            let got = transition(state, event);
            assert_eq!(got.map(Move::to), expected, "{state:?} on {event:?}");
            assert!(got.is_none_or(|step| step.from() == state));
        }
    }
}

#[test]
fn money_that_may_have_moved_is_never_offered_again() {
    for state in [
        PaymentState::Settling,
        PaymentState::Unknown,
        PaymentState::Settled,
    ] {
        assert_eq!(transition(state, Event::PresentedAgain), None);
        assert_eq!(transition(state, Event::GivenUp), None);
        assert_eq!(transition(state, Event::WindowClosed), None);
    }
    // Once an outcome is unknown, no refusal by a facilitator decides.
    assert_eq!(
        transition(PaymentState::Unknown, Event::SettleRefused),
        None
    );
}

#[test]
fn states_parse_as_they_are_spelled() {
    for state in PaymentState::ALL {
        assert_eq!(PaymentState::parse(state.as_str()), Some(state));
    }
    assert_eq!(PaymentState::parse("paid"), None);
}
