import CRE2

/// A user's regular expression, compiled once by RE2 (linear time) and shared by all threads.
public final class Pattern: Sendable {
  public let source: String
  init(source: String) { self.source = source }
}
