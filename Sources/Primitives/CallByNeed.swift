import Synchronization

/// A value that is made when it is first asked for, once, whoever asks and from whatever thread.
///
/// What makes it is a function of values that do not change, so nobody can tell when it was made. A value that is there costs
/// one load; only who finds none takes a lock.
public final class CallByNeed<Value: AnyObject & Sendable>: Sendable {
  /// The value, retained; 0 until it is made, and never changed after that. As bits, because generic atomics look up the
  /// metadata of their type at every load.
  @usableFromInline let known: Atomic<UInt>
  /// Let go when the value is there.
  private let recipe: Mutex<(@Sendable () -> Value)?>

  public init(_ make: @escaping @Sendable () -> Value) {
    known = Atomic(0)
    recipe = Mutex(make)
  }

  public init(_ value: Value) {
    known = Atomic(Self.bits(of: value))
    recipe = Mutex(nil)
  }

  deinit {
    guard let pointer = unsafe UnsafeRawPointer(bitPattern: known.load(ordering: .relaxed)) else { return }
    unsafe Unmanaged<Value>.fromOpaque(pointer).release()
  }

  private static func bits(of value: Value) -> UInt {
    UInt(bitPattern: unsafe Unmanaged.passRetained(value).toOpaque())
  }

  @inlinable var ifMade: Value? {
    guard let pointer = unsafe UnsafeRawPointer(bitPattern: known.load(ordering: .acquiring)) else { return nil }
    return unsafe Unmanaged<Value>.fromOpaque(pointer).takeUnretainedValue()
  }

  @inlinable public var value: Value { ifMade ?? made() }

  /// Whether somebody has asked for it.
  public var isMade: Bool { known.load(ordering: .acquiring) != 0 }

  /// The value for somebody who only looks: it is not kept for that.
  public var glimpse: Value {
    if let value = ifMade { return value }
    let make = recipe.withLock { $0 }
    return make?() ?? value
  }

  @usableFromInline @inline(never) func made() -> Value {
    recipe.withLock { recipe in
      if let value = ifMade { return value }
      guard let make = recipe else { preconditionFailure("without a value there is always what makes it") }
      let value = make()
      recipe = nil
      known.store(Self.bits(of: value), ordering: .releasing)
      return value
    }
  }
}
