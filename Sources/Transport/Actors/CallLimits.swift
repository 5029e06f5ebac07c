/// Bounds of remote calls.
public enum CallLimits {
  /// Bytes of the encoded arguments or result of one call. Larger things travel in the bulk lane.
  public static let bodyBytesMax = 4 << 20
  /// Arguments of one distributed function.
  public static let argumentsMax = 32
  /// Containers within containers in one value.
  public static let depthMax = 32
  /// Values in one message; each takes 24 bytes while it is decoded.
  public static let valuesMax = 524_288
  /// Different keys in one message.
  public static let keysMax = 65_536
  /// Bytes of one key.
  public static let keyBytesMax = 1_024
  /// Bytes of an actor's name.
  public static let actorNameBytesMax = 128
  /// Bytes of a target's identifier.
  public static let targetBytesMax = 1_024
  /// Bytes of an error's message.
  public static let errorBytesMax = 4_096

  /// The time a call has when the caller names none.
  public static let timeoutDefault: Duration = .seconds(10)
  /// The longest time a call may have; longer is cut to this.
  public static let timeoutMax: Duration = .seconds(300)

  /// Recipient and target pairs one peer may name on one link.
  public static let routesMax = 1_024
  /// Calls waiting for replies on one link.
  public static let pendingMax = 16_384
  /// Calls waiting in one actor's mailbox; each takes about 300 bytes and its arguments.
  public static let mailboxMax = 65_536
  /// Calls of one caller waiting in one actor's mailbox, so a flood leaves room for others.
  public static let mailboxPerCallerMax = 12_288
  /// Bytes of requests waiting in one actor's mailbox, and of one caller's there. One request is taken whatever its size.
  public static let mailboxBytesMax = 64 << 20
  public static let mailboxBytesPerCallerMax = 16 << 20
  /// Places of a mailbox that are kept while nothing waits.
  public static let mailboxCallsKept = 256
  /// Calls of concurrent targets running in one actor.
  public static let concurrentMax = 256

  /// Watches kept on this node: watchers times what each watches.
  public static let watchesMax = 16_384
  /// Actors of one peer watched from here, and actors here watched on one link.
  public static let watchesPerPeerMax = 1_024
  /// Actors here watched by all peers together; each takes about 200 bytes.
  public static let watchesServedMax = 65_536
}
