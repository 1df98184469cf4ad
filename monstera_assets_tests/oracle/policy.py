"""The thresholds of the framework, written a second time to detect wrong defaults in the package."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OraclePolicy:
    """Thresholds in days unless stated otherwise (sections 3, 4 and 5).

    Attributes:
        new_user_days: Maximum days since signup (or first access) for a new user.
        active_days: Maximum days since the last qualifying event for an active user.
        dormant_days: Maximum days since the last qualifying event for a dormant user.
        min_qualifying_events_to_activate: Number of qualifying events that end the state new.
        trial_days: Maximum days since creation for an account in a trial.
        onboarding_days: Days since the first payment for which an account is new_paid regardless of
            use.
        new_paid_days: Maximum days since the first payment for a new_paid account.
        churn_days: Minimum number of lapsed days for a churned account.
        reactivated_days: Maximum days since the return for a reactivated account.
        renewal_grace_days: Days after the renewal date for which an account pays on.
        dunning_days: Days from the first open failure to the end of the subscription.
        exchange_rates: Currencies with their constant rates.
        breadth_target: Number of products in use that gives the full breadth score.
    """

    new_user_days: int = 30
    active_days: int = 30
    dormant_days: int = 60
    min_qualifying_events_to_activate: int = 1
    trial_days: int = 30
    onboarding_days: int = 30
    new_paid_days: int = 90
    churn_days: int = 61
    reactivated_days: int = 90
    renewal_grace_days: int = 3
    dunning_days: int = 30
    breadth_target: int = 5
    exchange_rates: tuple[tuple[str, object], ...] = ()
