//! Requests to a real socket.
