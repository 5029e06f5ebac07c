import Synchronization

/// A value that is made when it is first asked for, once, whoever asks and from whatever thread.
///
/// What makes it is a function of values that do not change, so nobody can tell when it was made. A value that is there costs
/// one load; only who finds none takes a lock.
public final class CallByNeed<Value: AnyObject & Sendable>: Sendable {
  @usableFromInline let known = AtomicLazyReference<Value>()
  /// Let go when the value is there.
  private let recipe: Mutex<(@Sendable () -> Value)?>

  public init(_ make: @escaping @Sendable () -> Value) { recipe = Mutex(make) }

  public init(_ value: Value) {
    recipe = Mutex(nil)
    _ = known.storeIfNil(value)
  }

  @inlinable public var value: Value { known.load() ?? made() }

  /// Whether somebody has asked for it.
  public var isMade: Bool { known.load() != nil }

  /// The value for somebody who only looks: it is not kept for that.
  public var glimpse: Value {
    if let value = known.load() { return value }
    let make = recipe.withLock { $0 }
    return make?() ?? value
  }

  @usableFromInline @inline(never) func made() -> Value {
    recipe.withLock { recipe in
      if let value = known.load() { return value }
      guard let make = recipe else { preconditionFailure("without a value there is always what makes it") }
      recipe = nil
      return known.storeIfNil(make())
    }
  }
}
