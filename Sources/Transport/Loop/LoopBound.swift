/// Carries a value that belongs to a loop through other threads, which can neither read nor change it.
///
/// Unchecked because access is checked at run time: off the loop it is a programming error and traps.
public struct LoopBound<Value>: @unchecked Sendable {
  public let loop: EventLoop
  private let stored: Value

  public init(_ value: Value, on loop: EventLoop) {
    self.loop = loop
    stored = value
  }

  /// The value; on its loop only.
  public var value: Value {
    loop.checkIsolated()
    return stored
  }
}
