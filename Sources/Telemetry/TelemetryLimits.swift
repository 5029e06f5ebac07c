import Primitives

/// What telemetry keeps at most. Beyond a limit detail is lost, never a request.
public enum TelemetryLimits {
  /// Label combinations of source, destination and service one worker tells apart; later ones count as `other`.
  /// 20,000 flows × about 0.6 kB of cells bound a worker's request metrics to some 12 MB.
  public static let flowsMax = 20_000
  /// Series (flow × response code × flags × protocol) one worker tells apart; later ones count as `other`.
  public static let requestSeriesMax = 40_000
  /// Distinct service names taken from a client's Host header (passthrough traffic) one worker tells apart.
  public static let unregisteredServicesMax = 100
  /// Series of one family in a registry; later ones count with every label `other`.
  public static let registrySeriesMax = 2_000
  /// Bytes of one label value in the exposition; the rest is cut off. A SPIFFE id has at most 2,048.
  public static let labelValueBytesMax = 2_048
  /// Bytes of one client-supplied value in an access-log line before escaping; the rest is cut off.
  public static let accessLogFieldBytesMax = 4_096
  /// Bytes of an access-log format string.
  public static let accessLogFormatBytesMax = 8_192
  /// Bytes of a field's name in an operator.
  public static let fieldNameBytesMax = 256
  /// Operators that one `COALESCE` tries in turn.
  public static let coalescedOperatorsMax = 16
  /// An operator's argument in JSON: `COALESCE` nests 3 deep, and lists few.
  static let argument = JSONValue.Limits(bytes: 4_096, depth: 4, values: 256)
  /// Slots of a rate window.
  public static let rateWindowSlotsMax = 3_600
}
