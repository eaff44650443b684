//! The link to Redis: what it takes for fit, how it is lost and found again.
