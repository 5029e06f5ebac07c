/// Bounds of one HTTP/2 connection, with their units and reasons.
public enum HTTP2Limits {
  /// Streams a peer may have open at once.
  public static let concurrentStreams = 1024
}
