// A dashboard as Grafana's own components draw it: the panels of the JSON in their grid, with what Prometheus answered.
//
// Grafana's own: the chrome of a panel, time series with their legends, big values, themes, units, thresholds, colours.
// Ours: the grid, the headings of rows, the bars of a state timeline (Grafana keeps that one to itself).
// `window.DASHBOARD` is one object of what pictures/__main__.py writes: the dashboard, each target with its `series`.
import { createTheme, FieldType, getDisplayProcessor, dateTime, ThemeContext } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { flushSync } from 'react-dom';
import 'uplot/dist/uPlot.min.css';

const COLUMN = 52;
const CELL = 36;
const GAP = 8;
const theme = createTheme({ colors: { mode: 'dark' } });
const dashboard = window.DASHBOARD;
const range = { from: dateTime(dashboard.from * 1000), to: dateTime(dashboard.to * 1000) };
const timeRange = { ...range, raw: range };

// What a panel says of the series whose legends match, such as the colour of an answer's status.
function overridden(panel, legend) {
  const found = {};
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    const pattern = matcher.options.match(/^\/(.*)\/$/);
    if (matcher.id !== 'byRegexp' || !pattern) throw new Error(`a matcher that is not drawn: ${matcher.id}`);
    if (new RegExp(pattern[1]).test(legend)) for (const { id, value } of properties) found[id] = value;
  }
  return found;
}

function fieldOf(panel, series, index) {
  const { defaults } = panel.fieldConfig;
  const field = {
    name: series.legend,
    type: FieldType.number,
    config: {
      ...defaults,
      ...overridden(panel, series.legend),
      displayName: series.legend,
      custom: { ...defaults.custom },
    },
    state: { seriesIndex: index, displayName: series.legend },
    values: series.values.map((value) => (value === null ? null : Number(value))),
    labels: {},
  };
  field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  return field;
}

function Lines({ panel, width, height }) {
  const frames = panel.series.map((series, index) => ({
    length: dashboard.times.length,
    fields: [
      { name: 'time', type: FieldType.time, config: {}, values: dashboard.times.map((time) => time * 1000) },
      fieldOf(panel, series, index),
    ],
  }));
  for (const frame of frames) {
    frame.fields[0].display = getDisplayProcessor({ field: frame.fields[0], theme, timeZone: 'utc' });
  }
  const { legend } = panel.options;
  // What stands right of a narrow panel leaves nothing of it.
  const placed = width < 700 ? { ...legend, displayMode: 'list', placement: 'bottom', calcs: [] } : legend;
  return <TimeSeries frames={frames} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={placed} />;
}

function Values({ panel, width, height }) {
  const side = width / Math.max(panel.series.length, 1);
  return (
    <div style={{ display: 'flex' }}>
      {panel.series.map((series, index) => {
        const field = fieldOf(panel, series, index);
        const value = field.display(field.values.at(-1));
        value.title = panel.series.length > 1 ? series.legend : '';
        return (
          <BigValue
            key={series.legend}
            theme={theme}
            value={value}
            width={side}
            height={height}
            colorMode={panel.options.colorMode}
            graphMode="none"
            textMode={panel.series.length > 1 ? 'value_and_name' : 'value'}
          />
        );
      })}
    </div>
  );
}

function States({ panel, width, height }) {
  const label = 110;
  const row = Math.min(44, (height - 8) / Math.max(panel.series.length, 1));
  const step = (width - label) / dashboard.times.length;
  return (
    <div style={{ paddingTop: 4, font: theme.typography.bodySmall.fontSize + ' ' + theme.typography.fontFamily }}>
      {panel.series.map((series, index) => {
        const field = fieldOf(panel, series, index);
        const runs = [];
        field.values.forEach((value, at) => {
          const last = runs.at(-1);
          if (last && last.value === value) last.length += 1;
          else runs.push({ value, at, length: 1 });
        });
        return (
          <div key={series.legend} style={{ display: 'flex', height: row, alignItems: 'center' }}>
            <div style={{ width: label, color: theme.colors.text.secondary, overflow: 'hidden' }}>{series.legend}</div>
            {runs.map((run) => {
              const shown = run.value === null ? null : field.display(run.value);
              return (
                <div
                  key={run.at}
                  style={{
                    width: run.length * step,
                    height: row * 0.8,
                    lineHeight: `${row * 0.8}px`,
                    overflow: 'hidden',
                    whiteSpace: 'nowrap',
                    color: theme.colors.getContrastText(shown?.color ?? '#000'),
                    background: shown?.color ?? 'transparent',
                  }}
                >
                  {shown && run.length * step > 55 ? ` ${shown.text}` : ''}
                </div>
              );
            })}
          </div>
        );
      })}
    </div>
  );
}

function Nothing({ height }) {
  return <div style={{ lineHeight: `${height}px`, textAlign: 'center', color: theme.colors.text.secondary }}>No data</div>;
}

const DRAWN = { timeseries: Lines, stat: Values, 'state-timeline': States };

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const box = { position: 'absolute', left: x * COLUMN, top: y * CELL };
  if (panel.type === 'row') {
    return <h2 style={{ ...box, margin: 0, font: '500 15px ' + theme.typography.fontFamily, top: y * CELL + 8 }}>{panel.title}</h2>;
  }
  const Drawn = panel.series.length > 0 ? DRAWN[panel.type] : Nothing;
  return (
    <div style={box}>
      <PanelChrome title={panel.title} width={w * COLUMN - GAP} height={h * CELL - GAP}>
        {(width, height) => <Drawn panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

document.body.style.cssText = `margin: 16px; background: ${theme.colors.background.canvas}; color: ${theme.colors.text.primary};
  font: ${theme.typography.body.fontSize} ${theme.typography.fontFamily}`;
flushSync(() =>
  createRoot(document.getElementById('page')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative' }}>
        {dashboard.panels.map((panel) => (
          <Panel key={panel.id} panel={panel} />
        ))}
      </div>
    </ThemeContext.Provider>
  )
);
